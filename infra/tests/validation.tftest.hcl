# A wrong value is refused before anything is made, by the validation of its own variable. Each run has one wrong value of
# each variable, since a run costs a second.

mock_provider "yandex" {
  source = "./tests/mocks"
}

variables {
  cloud_id               = "b1g0cloud00000000000"
  folder_id              = "b1g0folder0000000000"
  bucket_prefix          = "acme-fraud"
  airflow_admin_password = "Not-a-Real-1-Password"
}

run "first" {
  command = plan

  variables {
    # folder name
    folder_id = "my-folder"

    # unknown zone
    zone = "b"

    # public subnet
    subnet_cidr = "8.8.8.0/24"

    # project with capitals
    project = "Fraud"

    # label with capitals
    labels = { Owner = "me" }

    # bucket with dots
    bucket_prefix = "acme.fraud"

    # versions for no time
    storage = { old_versions_days = 0 }

    # retention in days
    log_retention = "3d"

    # old postgres
    postgres = { version = "14" }

    # tiny machine
    mlflow_machine = { memory_gib = 1 }

    # mlflow for the internet
    mlflow_ui_cidrs = ["0.0.0.0/0"]

    # bastion for the internet
    bastion = { cidrs = ["0.0.0.0/0"], ssh_public_key = "ssh-ed25519 AAAA me" }

    # weak password
    airflow_admin_password = "password"

    # old airflow
    airflow = { version = "2.10", python_version = "3.12" }

    # no script
    dataproc = { shutdown_script = "/home/me/shutdown.sh" }

    # no hours without a decision
    retraining = { max_hours_without_decision = 0 }

    # repository by address
    github = { repository = "https://github.com/acme/fraud" }
  }

  expect_failures = [
    var.folder_id,
    var.zone,
    var.subnet_cidr,
    var.project,
    var.labels,
    var.bucket_prefix,
    var.storage,
    var.log_retention,
    var.postgres,
    var.mlflow_machine,
    var.mlflow_ui_cidrs,
    var.bastion,
    var.airflow_admin_password,
    var.airflow,
    var.dataproc,
    var.retraining,
    var.github,
  ]
}

run "second" {
  command = plan

  variables {
    # host instead of subnet
    subnet_cidr = "10.130.0.7/24"

    # too few backups
    postgres = { backup_days = 1 }

    # core fraction
    mlflow_machine = { core_fraction = 30 }

    # ui without network
    mlflow_ui_cidrs = ["10.20.0.0"]

    # bastion without key
    bastion = { cidrs = ["203.0.113.7/32"] }

    # old python
    airflow = { version = "2.8", python_version = "3.10" }

    # old image
    dataproc = { image_version = "2.1" }

    # no failed runs
    retraining = { max_failed_runs = 0 }

    # lock beyond expiry
    storage = { old_output_versions_days = 30, lock_days = 90 }

    # any environment
    github = { repository = "acme/fraud", environment = "*" }
  }

  expect_failures = [
    var.subnet_cidr,
    var.postgres,
    var.mlflow_machine,
    var.mlflow_ui_cidrs,
    var.bastion,
    var.airflow,
    var.dataproc,
    var.retraining,
    var.storage,
    var.github,
  ]
}

run "third" {
  command = plan

  variables {
    # subnet too small
    subnet_cidr = "10.130.0.0/28"

    # backup hour
    postgres = { backup_hour_utc = 24 }

    # bastion with private key
    bastion = { ssh_public_key = "-----BEGIN OPENSSH PRIVATE KEY-----" }

    # workers
    airflow = { worker = { min_count = 2, max_count = 1, preset = "c1-m4" } }

    # no nodes
    dataproc = { compute_count = 0 }

    # lock and destroy
    storage = { lock_days = 30, force_destroy = true }
  }

  expect_failures = [
    var.subnet_cidr,
    var.postgres,
    var.bastion,
    var.airflow,
    var.dataproc,
    var.storage,
  ]
}

run "fourth" {
  command = plan

  variables {
    # airflows own network
    subnet_cidr = "10.249.0.0/24"

    # restore time without backup
    postgres = { restore_time = "2026-01-01T12:00:00" }

    # small disk
    dataproc = { disk_gib = 10 }

    # one key for both
    bastion = { cidrs = ["203.0.113.7/32"], ssh_public_key = "ssh-ed25519 AAAA me", admin_ssh_public_key = "ssh-ed25519 AAAA me" }
  }

  expect_failures = [
    var.subnet_cidr,
    var.postgres,
    var.dataproc,
    var.bastion,
  ]
}

run "fifth" {
  command = plan

  variables {
    # early shutdown
    dataproc = { shutdown_minutes = 184 }
  }

  expect_failures = [
    var.dataproc,
  ]
}
