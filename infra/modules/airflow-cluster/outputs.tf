output "cluster_id" {
  description = "The cluster."
  value       = yandex_airflow_cluster.this.id
}

output "url" {
  description = "Its web interface."
  value       = "https://c-${yandex_airflow_cluster.this.id}.airflow.yandexcloud.net"
}

output "service_account_id" {
  description = "The cluster's account."
  value       = yandex_iam_service_account.this.id
}

output "security_group_id" {
  description = "The cluster's group."
  value       = yandex_vpc_security_group.this.id
}

output "log_group_id" {
  description = "Log group of the cluster."
  value       = yandex_logging_group.this.id
}

output "folder_roles" {
  description = "The account's roles on the folder."
  value       = sort([for grant in yandex_resourcemanager_folder_iam_member.this : grant.role])
}
