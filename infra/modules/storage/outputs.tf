# A resource that uses a bucket's name is created after its grants, and destroyed before them.
output "bucket_names" {
  description = "Bucket by purpose: code, input, output, work, mlflow."
  value       = { for purpose, bucket in yandex_storage_bucket.this : purpose => bucket.bucket }
  depends_on  = [yandex_storage_bucket_iam_binding.this, yandex_kms_symmetric_key_iam_member.this]
}

output "deployer_service_account_id" {
  description = "The account that uploads."
  value       = yandex_iam_service_account.deployer.id
}

output "deployer_secret_id" {
  description = "Lockbox secret with the deployer's access_key and secret_key."
  value       = yandex_lockbox_secret.deployer.id
}
