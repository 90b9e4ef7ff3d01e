# What the cloud would answer, where a made-up text would not do. Everything else is made up by Terraform itself, from
# the provider's real schema.
mock_data "yandex_connectionmanager_connection" {
  defaults = {
    lockbox_secret = { id = "e6q0postgres0secret0" }
  }
}

mock_data "yandex_compute_image" {
  defaults = { id = "fd80ubuntu0240image0" }
}

mock_resource "yandex_airflow_cluster" {
  defaults = { id = "enp0airflow0cluster0" }
}

mock_resource "yandex_mdb_postgresql_cluster_v2" {
  defaults = { id = "c9q0postgres0cluster" }
}
