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
  description = "The machine's private address, known before it is made: other groups name it."
}

variable "port" {
  type        = number
  description = "MLflow's port."
}

variable "postgres" {
  description = "Where MLflow keeps runs, models and accounts."
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

variable "client_security_group_id" {
  type        = string
  description = "The group whose machines may talk to MLflow: Data Proc's."
}

variable "client_service_account_id" {
  type        = string
  description = "The account that may read the job's password: Data Proc's."
}

variable "ui_cidrs" {
  type        = list(string)
  description = "Further addresses that may talk to MLflow."
}

variable "bastion" {
  description = "The machine that SSH tunnels to MLflow go through; none where cidrs is empty."
  type = object({
    cidrs          = list(string)
    ssh_public_key = string
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
  description = "Refuse to delete the secrets."
}
