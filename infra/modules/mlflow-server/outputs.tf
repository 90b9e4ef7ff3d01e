output "url" {
  description = "Address of MLflow within the network."
  value       = "http://${local.fqdn}:${var.port}"
}

output "service_account_id" {
  description = "The machine's account."
  value       = yandex_iam_service_account.this.id
}

output "security_group_id" {
  description = "The machine's group."
  value       = yandex_vpc_security_group.this.id
}

output "admin_secret_id" {
  description = "Lockbox secret with the password of MLflow's user admin."
  value       = yandex_lockbox_secret.password["admin"].id
  depends_on  = [yandex_lockbox_secret_version.password]
}

# A resource that uses this output is created after the grant.
output "job_secret_id" {
  description = "Lockbox secret with MLflow's user job: username and password."
  value       = yandex_lockbox_secret.job.id
  depends_on  = [yandex_lockbox_secret_iam_member.job, yandex_lockbox_secret_version.job]
}

output "bastion_address" {
  description = "The bastion's public address; null without one."
  value       = one(yandex_compute_instance.bastion[*].network_interface[0].nat_ip_address)
}
