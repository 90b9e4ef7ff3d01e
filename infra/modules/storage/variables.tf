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

variable "bucket_prefix" {
  type        = string
  description = "Prefix of the bucket names, which are unique in Yandex Cloud."
}

variable "readers" {
  type        = map(map(string))
  description = "Readers by bucket (code, input, output, mlflow): name to service account id."
}

variable "writers" {
  type        = map(map(string))
  description = "Writers, who may also delete, by bucket (code, input, output, mlflow): name to service account id."
}

variable "old_versions_days" {
  type        = number
  description = "Days until an overwritten or deleted version of an object is removed."
}

variable "output_days" {
  type        = number
  description = "Days until the logs of Data Proc jobs are deleted."
}

variable "force_destroy" {
  type        = bool
  description = "Whether destroying a bucket deletes its objects; otherwise only empty buckets are destroyed."
}

variable "deletion_protection" {
  type        = bool
  description = "Protect keys and secrets from deletion."
}
