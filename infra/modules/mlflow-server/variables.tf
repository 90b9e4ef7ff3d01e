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
  description = "Network of the machine."
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the machine."
}

variable "subnet_cidr" {
  type        = string
  description = "Addresses of the subnet."
}

variable "zone" {
  type        = string
  description = "Availability zone of the machine."
}

variable "address" {
  type        = string
  description = "Private address of the machine, fixed because security groups name it before the machine exists."
}

variable "port" {
  type        = number
  description = "MLflow's port."
}

variable "postgres" {
  description = "PostgreSQL of MLflow's runs, models and accounts."
  type = object({
    host               = string
    user               = string
    databases          = object({ runs = string, accounts = string })
    password_secret_id = string
  })
}

variable "bucket" {
  type        = string
  description = "Bucket of the artifacts."
}

variable "clients" {
  type        = map(object({ security_group_id = string, service_account_id = string }))
  description = "Who connects to MLflow as its user job: security group and account, which may read the job's password."
}

variable "ui_cidrs" {
  type        = list(string)
  description = "Further addresses that may connect to MLflow."
}

variable "bastion" {
  description = "Machine for SSH tunnels to MLflow; none if `cidrs` is empty."
  type = object({
    cidrs                = list(string)
    ssh_public_key       = string
    admin_ssh_public_key = string
  })
}

variable "machine" {
  description = "Size and image of the machine."
  type = object({
    platform      = string
    cores         = number
    core_fraction = number
    memory_gib    = number
    disk_gib      = number
    image_family  = string
    image_id      = string
  })
}

variable "deletion_protection" {
  type        = bool
  description = "Protect the secrets from deletion."
}
