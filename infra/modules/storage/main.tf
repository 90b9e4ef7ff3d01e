# A bucket for each purpose rather than folders of one: roles are granted on whole buckets, and a bucket policy, which
# could grant folders, is not supported for the bucket that Managed Airflow reads its DAGs from.
locals {
  buckets = {
    code   = "DAGs (dags/) and the job (code/)"
    input  = "Transactions (input_data/)"
    output = "Decisions, reports, outcomes (output_data/): added to, never deleted from"
    work   = "Data Proc's staging copies and logs (dataproc/), and whatever else a job may delete"
    mlflow = "MLflow's artifacts (artifacts/)"
  }

  # Staging copies are 147 MB a run; decisions are small, and what replaced them is evidence.
  old_versions_days = { for bucket in keys(local.buckets) : bucket => lookup({
    work   = 1
    output = var.old_output_versions_days
  }, bucket, var.old_versions_days) }

  # The deployer writes the first two, and reads the results.
  readers = { for bucket in keys(local.buckets) : bucket => merge(
    lookup(var.readers, bucket, {}),
    bucket == "output" ? { deployer = yandex_iam_service_account.deployer.id } : {},
  ) }
  writers = { for bucket in keys(local.buckets) : bucket => merge(
    lookup(var.writers, bucket, {}),
    contains(["code", "input"], bucket) ? { deployer = yandex_iam_service_account.deployer.id } : {},
  ) }

  # Access to an encrypted bucket also needs its key: to read it, only the right to decrypt.
  key_users = merge([for bucket in keys(local.buckets) : merge(
    { for user, id in local.readers[bucket] : "${bucket}/${user}" => {
      bucket = bucket, id = id, role = "kms.keys.decrypter"
    } },
    { for user, id in merge(local.writers[bucket], lookup(var.adders, bucket, {})) : "${bucket}/${user}" => {
      bucket = bucket, id = id, role = "kms.keys.encrypterDecrypter"
    } },
  )]...)

  bucket_roles = merge(
    { for bucket, users in local.readers : "${bucket}/storage.viewer" => {
      bucket = bucket, role = "storage.viewer", users = users
    } if length(users) > 0 },
    { for bucket, users in var.adders : "${bucket}/storage.uploader" => {
      bucket = bucket, role = "storage.uploader", users = users
    } if length(users) > 0 },
    { for bucket, users in local.writers : "${bucket}/storage.editor" => {
      bucket = bucket, role = "storage.editor", users = users
    } if length(users) > 0 },
  )
}

# A key for each bucket: managed-airflow.integrationProvider lets Airflow list and read all buckets of the folder, but
# what it has no key for stays unreadable.
resource "yandex_kms_symmetric_key" "bucket" {
  for_each = local.buckets

  folder_id           = var.folder_id
  name                = "${var.name}-${each.key}"
  description         = each.value
  default_algorithm   = "AES_256"
  rotation_period     = "8760h"
  deletion_protection = var.deletion_protection
  labels              = var.labels
}

resource "yandex_storage_bucket" "this" {
  for_each = local.buckets

  folder_id     = var.folder_id
  bucket        = "${var.bucket_prefix}-${each.key}"
  force_destroy = var.force_destroy
  tags          = var.labels

  anonymous_access_flags {
    read        = false
    list        = false
    config_read = false
  }

  versioning {
    enabled = true
  }

  dynamic "object_lock_configuration" {
    for_each = each.key == "output" && var.lock_days > 0 ? [var.lock_days] : []

    content {
      object_lock_enabled = "Enabled"

      rule {
        default_retention {
          mode = "GOVERNANCE"
          days = object_lock_configuration.value
        }
      }
    }
  }

  server_side_encryption_configuration {
    rule {
      apply_server_side_encryption_by_default {
        kms_master_key_id = yandex_kms_symmetric_key.bucket[each.key].id
        sse_algorithm     = "aws:kms"
      }
    }
  }

  lifecycle_rule {
    id                                     = "old-versions"
    enabled                                = true
    abort_incomplete_multipart_upload_days = 7

    noncurrent_version_expiration {
      days = local.old_versions_days[each.key]
    }
  }

  dynamic "lifecycle_rule" {
    for_each = each.key == "work" ? [1] : []

    content {
      id      = "job-logs"
      enabled = true

      filter {
        prefix = "dataproc/"
      }

      expiration {
        days = var.output_days
      }
    }
  }
}

resource "yandex_storage_bucket_iam_binding" "this" {
  for_each = local.bucket_roles

  bucket  = yandex_storage_bucket.this[each.value.bucket].bucket
  role    = each.value.role
  members = [for user, id in each.value.users : "serviceAccount:${id}"]
}

resource "yandex_kms_symmetric_key_iam_member" "this" {
  for_each = local.key_users

  symmetric_key_id = yandex_kms_symmetric_key.bucket[each.value.bucket].id
  role             = each.value.role
  member           = "serviceAccount:${each.value.id}"
}

# Uploads DAGs, code and data, by hand or from CI. Its key is stored in Lockbox, never in the state.
resource "yandex_iam_service_account" "deployer" {
  folder_id   = var.folder_id
  name        = "${var.name}-deployer"
  description = "Uploads DAGs, code and data; fetches results"
  labels      = var.labels
}

# GitHub's identity acts as the deployer, which then creates a key for one hour (docs/deploy.md).
resource "yandex_iam_service_account_iam_member" "deployer" {
  service_account_id = yandex_iam_service_account.deployer.id
  role               = "iam.serviceAccounts.ephemeralAccessKeyAdmin"
  member             = "serviceAccount:${yandex_iam_service_account.deployer.id}"
}

resource "yandex_lockbox_secret" "deployer" {
  folder_id           = var.folder_id
  name                = "${var.name}-deployer-s3"
  description         = "Static access key of ${var.name}-deployer, for s3cmd"
  deletion_protection = var.deletion_protection
  labels              = var.labels
}

resource "yandex_iam_service_account_static_access_key" "deployer" {
  service_account_id = yandex_iam_service_account.deployer.id
  description        = "s3cmd"

  output_to_lockbox {
    secret_id            = yandex_lockbox_secret.deployer.id
    entry_for_access_key = "access_key"
    entry_for_secret_key = "secret_key"
  }
}
