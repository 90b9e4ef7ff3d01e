output "service_account_id" {
  description = "The clusters' account."
  value       = yandex_iam_service_account.this.id
}

output "security_group_id" {
  description = "The clusters' group."
  value       = yandex_vpc_security_group.this.id
}

output "log_group_id" {
  description = "Log group of the clusters."
  value       = yandex_logging_group.this.id
}

output "folder_roles" {
  description = "The account's roles on the folder."
  value       = sort([for grant in yandex_resourcemanager_folder_iam_member.this : grant.role])
}
