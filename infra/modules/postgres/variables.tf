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
  description = "Labels of every resource that can have them."
}

variable "network_id" {
  type        = string
  description = "Network of the cluster."
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the hosts."
}

variable "zone" {
  type        = string
  description = "Availability zone of the hosts."
}

variable "client_cidr" {
  type        = string
  description = "The only address that may connect: MLflow's."
}

variable "postgres" {
  description = "The cluster's version, size, backups."
  type = object({
    version           = string
    preset            = string
    disk_type         = string
    disk_gib          = number
    hosts             = number
    backup_hour_utc   = number
    backup_days       = number
    maintenance_day   = string
    maintenance_hour  = number
    restore_backup_id = string
    restore_time      = string
  })
}

variable "deletion_protection" {
  type        = bool
  description = "Protect the cluster and its databases from deletion."
}
