locals {
  databases = toset(["mlflow", "mlflow_auth"]) # runs and models; MLflow's own accounts
}

resource "yandex_vpc_security_group" "this" {
  folder_id   = var.folder_id
  network_id  = var.network_id
  name        = "${var.name}-postgres"
  description = "PostgreSQL: MLflow alone"
  labels      = var.labels

  ingress {
    description    = "MLflow, through the pooler"
    protocol       = "TCP"
    port           = 6432
    v4_cidr_blocks = [var.client_cidr]
  }

  ingress {
    description       = "Between the hosts"
    protocol          = "ANY"
    predefined_target = "self_security_group"
  }

  egress {
    description       = "Between the hosts"
    protocol          = "ANY"
    predefined_target = "self_security_group"
  }
}

resource "yandex_mdb_postgresql_cluster_v2" "this" {
  folder_id           = var.folder_id
  name                = var.name
  description         = "MLflow's runs, models and accounts"
  environment         = "PRODUCTION"
  network_id          = var.network_id
  security_group_ids  = [yandex_vpc_security_group.this.id]
  deletion_protection = var.deletion_protection
  labels              = var.labels

  config {
    version                   = var.postgres.version
    backup_retain_period_days = var.postgres.backup_days

    backup_window_start = {
      hours   = var.postgres.backup_hour_utc
      minutes = 0
    }

    access = {
      data_lens     = false
      data_transfer = false
      serverless    = false
      web_sql       = false
      yandex_query  = false
    }

    connection_manager = {
      enabled = true # it makes the user's password, which thereby never is in the state
    }

    resources {
      resource_preset_id = var.postgres.preset
      disk_type_id       = var.postgres.disk_type
      disk_size          = var.postgres.disk_gib
    }
  }

  hosts = { for number in range(var.postgres.hosts) : "host${number + 1}" => {
    zone             = var.zone
    subnet_id        = var.subnet_id
    assign_public_ip = false
  } }

  maintenance_window = {
    type = "WEEKLY"
    day  = var.postgres.maintenance_day
    hour = var.postgres.maintenance_hour
  }

  restore = var.postgres.restore_backup_id == null ? null : {
    backup_id = var.postgres.restore_backup_id
    time      = var.postgres.restore_time
  }
}

resource "yandex_mdb_postgresql_user" "mlflow" {
  cluster_id          = yandex_mdb_postgresql_cluster_v2.this.id
  name                = "mlflow"
  generate_password   = true
  conn_limit          = 60
  deletion_protection = tostring(var.deletion_protection)

  user_connection_manager {
    secret_folder_id = var.folder_id
  }
}

resource "yandex_mdb_postgresql_database" "this" {
  for_each = local.databases

  cluster_id          = yandex_mdb_postgresql_cluster_v2.this.id
  name                = each.key
  owner               = yandex_mdb_postgresql_user.mlflow.name
  lc_collate          = "C"
  lc_type             = "C"
  deletion_protection = tostring(var.deletion_protection)
}

# Terraform defers reading a data source that depends on a resource with a pending change. A user's connection does not
# change with the user, so this resource is between them; otherwise every change of the user would replace MLflow's machine.
resource "terraform_data" "connection" {
  input = yandex_mdb_postgresql_user.mlflow.user_connection_manager[0].connection_id
}

# The secret in which Connection Manager stores the password.
data "yandex_connectionmanager_connection" "mlflow" {
  connection_id = terraform_data.connection.output
}
