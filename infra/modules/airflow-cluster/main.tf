locals {
  # The API of Airflow 2 accepts a password, as make import-variables sends it, only with this option; Airflow 3 needs none.
  own_config = { for section, options in {
    api = { auth_backends = "airflow.api.auth.backend.basic_auth,airflow.api.auth.backend.session" }
  } : section => options if startswith(var.airflow.version, "2.") }
  config = {
    for section in toset(concat(keys(local.own_config), keys(var.airflow.config))) :
    section => merge(lookup(local.own_config, section, {}), lookup(var.airflow.config, section, {}))
  }
}

resource "yandex_iam_service_account" "this" {
  folder_id   = var.folder_id
  name        = "${var.name}-airflow"
  description = "Managed Airflow: makes and deletes Data Proc clusters"
  labels      = var.labels
}

resource "yandex_resourcemanager_folder_iam_member" "this" {
  for_each = toset(["managed-airflow.integrationProvider", "dataproc.editor", "vpc.user"])

  folder_id = var.folder_id
  role      = each.key
  member    = "serviceAccount:${yandex_iam_service_account.this.id}"
}

# On this one account instead of the folder, so that Airflow cannot start anything as another account.
resource "yandex_iam_service_account_iam_member" "dataproc" {
  service_account_id = var.dataproc_service_account_id
  role               = "iam.serviceAccounts.user"
  member             = "serviceAccount:${yandex_iam_service_account.this.id}"
}

resource "yandex_lockbox_secret_iam_member" "own" {
  for_each = var.lockbox_secret_ids

  secret_id = each.key
  role      = "lockbox.payloadViewer"
  member    = "serviceAccount:${yandex_iam_service_account.this.id}"
}

resource "yandex_logging_group" "this" {
  folder_id        = var.folder_id
  name             = "${var.name}-airflow"
  description      = "Managed Airflow's components and tasks"
  retention_period = var.log_retention
  labels           = var.labels
}

# Security groups filter only Airflow's outgoing traffic; the service exposes its web interface on the internet.
resource "yandex_vpc_security_group" "this" {
  folder_id   = var.folder_id
  network_id  = var.network_id
  name        = "${var.name}-airflow"
  description = "Managed Airflow"
  labels      = var.labels

  egress {
    description    = "The cloud's API, Object Storage, packages, webhooks"
    protocol       = "TCP"
    port           = 443
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "MLflow: whether it answers, before a cluster is created"
    protocol       = "TCP"
    port           = var.mlflow_port
    v4_cidr_blocks = [var.mlflow_cidr]
  }
}

resource "yandex_airflow_cluster" "this" {
  folder_id           = var.folder_id
  name                = var.name
  description         = "Retrains the fraud model on schedule"
  labels              = var.labels
  service_account_id  = yandex_iam_service_account.this.id
  subnet_ids          = [var.subnet_id]
  security_group_ids  = [yandex_vpc_security_group.this.id]
  admin_password      = var.admin_password # stays in the state: the provider has no other way (docs/security.md)
  airflow_version     = var.airflow.version
  python_version      = var.airflow.python_version
  airflow_config      = local.config
  pip_packages        = var.airflow.pip_packages
  deletion_protection = var.deletion_protection

  webserver = {
    count              = var.airflow.webserver.count
    resource_preset_id = var.airflow.webserver.preset
  }

  scheduler = {
    count              = var.airflow.scheduler.count
    resource_preset_id = var.airflow.scheduler.preset
  }

  # A separate component since Airflow 3.
  dag_processor = startswith(var.airflow.version, "2.") ? null : {
    count              = var.airflow.dag_processor.count
    resource_preset_id = var.airflow.dag_processor.preset
  }

  worker = {
    min_count          = var.airflow.worker.min_count
    max_count          = var.airflow.worker.max_count
    resource_preset_id = var.airflow.worker.preset
  }

  code_sync = {
    s3 = {
      bucket = var.dags_bucket
    }
  }

  lockbox_secrets_backend = {
    enabled = length(var.lockbox_secret_ids) > 0
  }

  logging = {
    enabled      = true
    log_group_id = yandex_logging_group.this.id
    min_level    = "INFO"
  }

  maintenance_window = {
    type = "WEEKLY"
    day  = var.airflow.maintenance_day
    hour = var.airflow.maintenance_hour
  }

  # The service checks the account's roles when it creates the cluster, and needs them until the cluster is deleted.
  depends_on = [
    yandex_resourcemanager_folder_iam_member.this,
    yandex_iam_service_account_iam_member.dataproc,
    yandex_lockbox_secret_iam_member.own,
  ]
}
