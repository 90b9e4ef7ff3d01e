variable "name" {
  type        = string
  description = "Prefix of the names of all resources."
}

variable "folder_id" {
  type        = string
  description = "Folder of the resources."
}

variable "labels" {
  type        = map(string)
  description = "Labels of every resource."
}

variable "network_id" {
  type        = string
  description = "Network of the cluster."
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the cluster's components."
}

variable "dags_bucket" {
  type        = string
  description = "Bucket with the DAGs in `dags/`."
}

variable "dataproc_service_account_id" {
  type        = string
  description = "The account that Airflow may give to Data Proc clusters."
}

variable "mlflow_cidr" {
  type        = string
  description = "MLflow's address."
}

variable "mlflow_port" {
  type        = number
  description = "MLflow's port."
}

variable "lockbox_secret_ids" {
  type        = set(string)
  description = "Secrets that Airflow may read as connections and variables."
}

variable "admin_password" {
  type        = string
  sensitive   = true
  description = "Password of the user admin of Airflow's web interface."
}

variable "airflow" {
  description = "Versions and sizes."
  type = object({
    version          = string
    python_version   = string
    webserver        = object({ count = number, preset = string })
    scheduler        = object({ count = number, preset = string })
    dag_processor    = object({ count = number, preset = string })
    worker           = object({ min_count = number, max_count = number, preset = string })
    pip_packages     = set(string)
    config           = map(map(string))
    maintenance_day  = string
    maintenance_hour = number
  })
}

variable "log_retention" {
  type        = string
  description = "Retention of the logs, such as 72h."
}

variable "deletion_protection" {
  type        = bool
  description = "Protect the cluster from deletion."
}
