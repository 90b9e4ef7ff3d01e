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

variable "bucket_prefix" {
  type        = string
  description = "What the names of the buckets begin with; bucket names are unique in the whole of Yandex Cloud."
}

variable "readers" {
  type        = map(map(string))
  description = "Bucket (code, input, output, mlflow) to those who may read it: name to service account id."
}

variable "writers" {
  type        = map(map(string))
  description = "Bucket (code, input, output, mlflow) to those who may also write and delete: name to service account id."
}

variable "old_versions_days" {
  type        = number
  description = "Days until an overwritten or deleted version of an object is gone for good."
}

variable "output_days" {
  type        = number
  description = "Days until the logs of Data Proc jobs are deleted."
}

variable "force_destroy" {
  type        = bool
  description = "Whether destroying a bucket deletes what is in it; otherwise a bucket with objects is not destroyed."
}

variable "deletion_protection" {
  type        = bool
  description = "Refuse to delete keys and secrets."
}
