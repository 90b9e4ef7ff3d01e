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

variable "zone" {
  type        = string
  description = "Availability zone of the subnet."
}

variable "subnet_cidr" {
  type        = string
  description = "Addresses of the subnet."
}
