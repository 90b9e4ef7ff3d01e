output "cluster_id" {
  description = "The cluster."
  value       = yandex_mdb_postgresql_cluster_v2.this.id
}

output "host" {
  description = "Host name that always points at the primary."
  value       = "c-${yandex_mdb_postgresql_cluster_v2.this.id}.rw.mdb.yandexcloud.net"
}

output "user" {
  description = "MLflow's user."
  value       = yandex_mdb_postgresql_user.mlflow.name
}

output "password_secret_id" {
  description = "Lockbox secret with the user's password."
  value       = data.yandex_connectionmanager_connection.mlflow.lockbox_secret.id
}

# A resource that uses these names is created after the databases, and destroyed before them.
output "databases" {
  description = "The databases: runs and models, and accounts."
  value       = { runs = "mlflow", accounts = "mlflow_auth" }
  depends_on  = [yandex_mdb_postgresql_database.this]
}

output "security_group_id" {
  description = "The hosts' group."
  value       = yandex_vpc_security_group.this.id
}
