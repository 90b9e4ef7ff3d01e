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
  description = "Network of the clusters."
}

variable "mlflow_cidr" {
  type        = string
  description = "MLflow's address."
}

variable "mlflow_port" {
  type        = number
  description = "MLflow's port."
}

variable "log_retention" {
  type        = string
  description = "Retention of the logs, such as 72h."
}
