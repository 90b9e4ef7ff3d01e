variable "name" {
  type        = string
  description = "What the names of all resources begin with."
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

variable "autoscaling" {
  type        = bool
  description = "Whether clusters scale by themselves, as those with preemptible nodes do."
}

variable "log_retention" {
  type        = string
  description = "How long logs are kept, such as 72h."
}
