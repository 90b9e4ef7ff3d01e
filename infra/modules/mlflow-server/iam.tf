resource "yandex_iam_service_account" "this" {
  folder_id   = var.folder_id
  name        = "${var.name}-mlflow"
  description = "MLflow's machine: its secrets and its bucket, nothing on the folder"
  labels      = var.labels
}

# Lockbox generates the passwords and machines read them: no person and no state holds them.
resource "yandex_lockbox_secret" "password" {
  for_each = {
    admin   = "Password of MLflow's user admin"
    session = "Key that MLflow signs its sessions with"
  }

  folder_id           = var.folder_id
  name                = "${var.name}-mlflow-${each.key}"
  description         = each.value
  deletion_protection = var.deletion_protection
  labels              = var.labels

  password_payload_specification {
    password_key        = "password"
    length              = 40
    include_punctuation = false
  }
}

# The provider creates each secret with `create_version: false`, and Lockbox generates no password before a version is added.
resource "yandex_lockbox_secret_version" "password" {
  for_each = yandex_lockbox_secret.password

  secret_id = each.value.id
}

# The job needs name and password in one secret, which Lockbox's generator does not support. So a script generates the
# password during the apply, and the provider sends it to Lockbox without storing it in the state.
resource "yandex_lockbox_secret" "job" {
  folder_id           = var.folder_id
  name                = "${var.name}-mlflow-job"
  description         = "MLflow's user job, as whom the retraining job logs runs and moves aliases"
  deletion_protection = var.deletion_protection
  labels              = var.labels
}

resource "yandex_lockbox_secret_version" "job" {
  secret_id = yandex_lockbox_secret.job.id

  entries {
    key        = "username"
    text_value = "job"
  }

  entries {
    key = "password"

    command {
      path = "${path.module}/files/password.sh"
    }
  }
}

# MLflow accesses its bucket through boto3, which supports only access keys. The key is stored in Lockbox alone.
resource "yandex_lockbox_secret" "s3" {
  folder_id           = var.folder_id
  name                = "${var.name}-mlflow-s3"
  description         = "Static access key of ${var.name}-mlflow, for its artifacts"
  deletion_protection = var.deletion_protection
  labels              = var.labels
}

resource "yandex_iam_service_account_static_access_key" "this" {
  service_account_id = yandex_iam_service_account.this.id
  description        = "MLflow's artifacts"

  output_to_lockbox {
    secret_id            = yandex_lockbox_secret.s3.id
    entry_for_access_key = "access_key"
    entry_for_secret_key = "secret_key"
  }
}

locals {
  secret_ids = {
    admin    = yandex_lockbox_secret.password["admin"].id
    job      = yandex_lockbox_secret.job.id
    session  = yandex_lockbox_secret.password["session"].id
    s3       = yandex_lockbox_secret.s3.id
    postgres = var.postgres.password_secret_id
  }
}

resource "yandex_lockbox_secret_iam_member" "server" {
  for_each = toset(["admin", "job", "session", "s3", "postgres"])

  secret_id = local.secret_ids[each.key]
  role      = "lockbox.payloadViewer"
  member    = "serviceAccount:${yandex_iam_service_account.this.id}"
}

resource "yandex_lockbox_secret_iam_member" "job" {
  for_each = var.clients

  secret_id = local.secret_ids["job"]
  role      = "lockbox.payloadViewer"
  member    = "serviceAccount:${each.value.service_account_id}"
}
