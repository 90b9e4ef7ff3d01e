# Credentials come from the environment: export YC_TOKEN=$(yc iam create-token), or YC_SERVICE_ACCOUNT_KEY_FILE.
provider "yandex" {
  cloud_id  = var.cloud_id
  folder_id = var.folder_id
  zone      = var.zone
}

locals {
  labels = merge(var.labels, { project = var.project, managed-by = "terraform" })

  # Fixed, so that every security group can name MLflow's address before its machine exists.
  mlflow_address = cidrhost(var.subnet_cidr, 10)
  mlflow_port    = 5000

  code_uri = "s3a://${module.storage.bucket_names["code"]}/code"
}

module "network" {
  source = "./modules/network"

  name        = var.project
  folder_id   = var.folder_id
  labels      = local.labels
  zone        = var.zone
  subnet_cidr = var.subnet_cidr
}

module "storage" {
  source = "./modules/storage"

  name                = var.project
  folder_id           = var.folder_id
  labels              = local.labels
  bucket_prefix       = var.bucket_prefix
  output_days         = var.storage.job_logs_days
  lock_days           = var.storage.lock_days
  force_destroy       = var.storage.force_destroy
  deletion_protection = var.deletion_protection

  old_versions_days        = var.storage.old_versions_days
  old_output_versions_days = var.storage.old_output_versions_days

  github = var.github

  readers = {
    code   = { airflow = module.airflow_cluster.service_account_id, dataproc = module.dataproc.service_account_id }
    input  = { dataproc = module.dataproc.service_account_id }
    output = { airflow = module.airflow_cluster.service_account_id }
  }
  adders = {
    output = { dataproc = module.dataproc.service_account_id }
  }
  writers = {
    work   = { dataproc = module.dataproc.service_account_id }
    mlflow = { mlflow = module.mlflow_server.service_account_id }
  }
}

module "postgres" {
  source = "./modules/postgres"

  name                = "${var.project}-mlflow"
  folder_id           = var.folder_id
  labels              = local.labels
  network_id          = module.network.network_id
  subnet_id           = module.network.subnet_id
  zone                = var.zone
  client_cidr         = "${local.mlflow_address}/32"
  postgres            = var.postgres
  deletion_protection = var.deletion_protection
}

module "mlflow_server" {
  source = "./modules/mlflow-server"

  name        = var.project
  folder_id   = var.folder_id
  labels      = local.labels
  network_id  = module.network.network_id
  subnet_id   = module.network.subnet_id
  subnet_cidr = var.subnet_cidr
  zone        = var.zone
  address     = local.mlflow_address
  port        = local.mlflow_port
  bucket      = module.storage.bucket_names["mlflow"]
  # The job, and Airflow's question before a cluster is created, whether MLflow answers the job.
  clients = {
    dataproc = { security_group_id = module.dataproc.security_group_id, service_account_id = module.dataproc.service_account_id }
    airflow  = { security_group_id = module.airflow_cluster.security_group_id, service_account_id = module.airflow_cluster.service_account_id }
  }
  ui_cidrs            = var.mlflow_ui_cidrs
  bastion             = var.bastion
  machine             = var.mlflow_machine
  deletion_protection = var.deletion_protection

  postgres = {
    host               = module.postgres.host
    user               = module.postgres.user
    databases          = module.postgres.databases
    password_secret_id = module.postgres.password_secret_id
  }
}

module "dataproc" {
  source = "./modules/dataproc"

  name          = var.project
  folder_id     = var.folder_id
  labels        = local.labels
  network_id    = module.network.network_id
  mlflow_cidr   = "${local.mlflow_address}/32"
  mlflow_port   = local.mlflow_port
  log_retention = var.log_retention
}

module "airflow_cluster" {
  source = "./modules/airflow-cluster"

  name                        = var.project
  folder_id                   = var.folder_id
  labels                      = local.labels
  network_id                  = module.network.network_id
  subnet_id                   = module.network.subnet_id
  dags_bucket                 = module.storage.bucket_names["code"]
  dataproc_service_account_id = module.dataproc.service_account_id
  mlflow_cidr                 = "${local.mlflow_address}/32"
  mlflow_port                 = local.mlflow_port
  lockbox_secret_ids          = var.airflow_secret_ids
  admin_password              = var.airflow_admin_password
  airflow                     = var.airflow
  log_retention               = var.log_retention
  deletion_protection         = var.deletion_protection
}
