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
  description = "Readers by bucket (code, input, output, work, mlflow): name to service account id."
}

variable "adders" {
  type        = map(map(string))
  description = "Who may read, add and replace, but not delete, by bucket: name to service account id."
}

variable "writers" {
  type        = map(map(string))
  description = "Writers, who may also delete, by bucket (code, input, output, work, mlflow): name to service account id."
}

variable "github" {
  description = "The repository, OWNER/NAME, and the environment whose workflow may upload; null for none."
  type        = object({ repository = string, environment = string })
}

variable "old_versions_days" {
  type        = number
  description = "Days until an overwritten or deleted version of an object is removed."
}

variable "old_output_versions_days" {
  type        = number
  description = "The same for the bucket of decisions, where a replaced version is evidence."
}

variable "lock_days" {
  type        = number
  description = "Days for which no version in the bucket of decisions can be deleted (object lock); 0 for no lock."
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
