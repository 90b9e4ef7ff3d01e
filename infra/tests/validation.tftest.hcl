# A wrong value is refused before anything is made, by the validation of its own variable.

mock_provider "yandex" {
  source = "./tests/mocks"
}

variables {
  cloud_id               = "b1g0cloud00000000000"
  folder_id              = "b1g0folder0000000000"
  bucket_prefix          = "acme-fraud"
  airflow_admin_password = "Not-a-Real-1-Password"
}

run "folder_name" {
  command = plan

  variables {
    folder_id = "my-folder"
  }

  expect_failures = [var.folder_id]
}

run "unknown_zone" {
  command = plan

  variables {
    zone = "b"
  }

  expect_failures = [var.zone]
}

run "public_subnet" {
  command = plan

  variables {
    subnet_cidr = "8.8.8.0/24"
  }

  expect_failures = [var.subnet_cidr]
}

run "host_instead_of_subnet" {
  command = plan

  variables {
    subnet_cidr = "10.130.0.7/24"
  }

  expect_failures = [var.subnet_cidr]
}

run "subnet_too_small" {
  command = plan

  variables {
    subnet_cidr = "10.130.0.0/28"
  }

  expect_failures = [var.subnet_cidr]
}

run "airflows_own_network" {
  command = plan

  variables {
    subnet_cidr = "10.249.0.0/24"
  }

  expect_failures = [var.subnet_cidr]
}

run "project_with_capitals" {
  command = plan

  variables {
    project = "Fraud"
  }

  expect_failures = [var.project]
}

run "label_with_capitals" {
  command = plan

  variables {
    labels = { Owner = "me" }
  }

  expect_failures = [var.labels]
}

run "bucket_with_dots" {
  command = plan

  variables {
    bucket_prefix = "acme.fraud"
  }

  expect_failures = [var.bucket_prefix]
}

run "versions_for_no_time" {
  command = plan

  variables {
    storage = { old_versions_days = 0 }
  }

  expect_failures = [var.storage]
}

run "retention_in_days" {
  command = plan

  variables {
    log_retention = "3d"
  }

  expect_failures = [var.log_retention]
}

run "old_postgres" {
  command = plan

  variables {
    postgres = { version = "14" }
  }

  expect_failures = [var.postgres]
}

run "too_few_backups" {
  command = plan

  variables {
    postgres = { backup_days = 1 }
  }

  expect_failures = [var.postgres]
}

run "backup_hour" {
  command = plan

  variables {
    postgres = { backup_hour_utc = 24 }
  }

  expect_failures = [var.postgres]
}

run "restore_time_without_backup" {
  command = plan

  variables {
    postgres = { restore_time = "2026-01-01T12:00:00" }
  }

  expect_failures = [var.postgres]
}

run "tiny_machine" {
  command = plan

  variables {
    mlflow_machine = { memory_gib = 1 }
  }

  expect_failures = [var.mlflow_machine]
}

run "core_fraction" {
  command = plan

  variables {
    mlflow_machine = { core_fraction = 30 }
  }

  expect_failures = [var.mlflow_machine]
}

run "mlflow_for_the_internet" {
  command = plan

  variables {
    mlflow_ui_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.mlflow_ui_cidrs]
}

run "ui_without_network" {
  command = plan

  variables {
    mlflow_ui_cidrs = ["10.20.0.0"]
  }

  expect_failures = [var.mlflow_ui_cidrs]
}

run "bastion_for_the_internet" {
  command = plan

  variables {
    bastion = { cidrs = ["0.0.0.0/0"], ssh_public_key = "ssh-ed25519 AAAA me" }
  }

  expect_failures = [var.bastion]
}

run "bastion_without_key" {
  command = plan

  variables {
    bastion = { cidrs = ["203.0.113.7/32"] }
  }

  expect_failures = [var.bastion]
}

run "bastion_with_private_key" {
  command = plan

  variables {
    bastion = { ssh_public_key = "-----BEGIN OPENSSH PRIVATE KEY-----" }
  }

  expect_failures = [var.bastion]
}

run "weak_password" {
  command = plan

  variables {
    airflow_admin_password = "password"
  }

  expect_failures = [var.airflow_admin_password]
}

run "old_airflow" {
  command = plan

  variables {
    airflow = { version = "2.10", python_version = "3.12" }
  }

  expect_failures = [var.airflow]
}

run "no_script" {
  command = plan

  variables {
    dataproc = { shutdown_script = "/home/me/shutdown.sh" }
  }

  expect_failures = [var.dataproc]
}

run "old_python" {
  command = plan

  variables {
    airflow = { version = "2.8", python_version = "3.10" }
  }

  expect_failures = [var.airflow]
}

run "workers" {
  command = plan

  variables {
    airflow = { worker = { min_count = 2, max_count = 1, preset = "c1-m4" } }
  }

  expect_failures = [var.airflow]
}

run "old_image" {
  command = plan

  variables {
    dataproc = { image_version = "2.1" }
  }

  expect_failures = [var.dataproc]
}

run "no_nodes" {
  command = plan

  variables {
    dataproc = { compute_count = 0 }
  }

  expect_failures = [var.dataproc]
}

run "small_disk" {
  command = plan

  variables {
    dataproc = { disk_gib = 10 }
  }

  expect_failures = [var.dataproc]
}

run "early_shutdown" {
  command = plan

  variables {
    dataproc = { shutdown_minutes = 184 }
  }

  expect_failures = [var.dataproc]
}

run "no_hours_without_a_decision" {
  command = plan

  variables {
    retraining = { max_hours_without_decision = 0 }
  }

  expect_failures = [var.retraining]
}

run "no_failed_runs" {
  command = plan

  variables {
    retraining = { max_failed_runs = 0 }
  }

  expect_failures = [var.retraining]
}

run "one_key_for_both" {
  command = plan

  variables {
    bastion = { cidrs = ["203.0.113.7/32"], ssh_public_key = "ssh-ed25519 AAAA me", admin_ssh_public_key = "ssh-ed25519 AAAA me" }
  }

  expect_failures = [var.bastion]
}

run "lock_beyond_expiry" {
  command = plan

  variables {
    storage = { old_output_versions_days = 30, lock_days = 90 }
  }

  expect_failures = [var.storage]
}

run "lock_and_destroy" {
  command = plan

  variables {
    storage = { lock_days = 30, force_destroy = true }
  }

  expect_failures = [var.storage]
}

run "repository_by_address" {
  command = plan

  variables {
    github = { repository = "https://github.com/acme/fraud" }
  }

  expect_failures = [var.github]
}

run "any_environment" {
  command = plan

  variables {
    github = { repository = "acme/fraud", environment = "*" }
  }

  expect_failures = [var.github]
}
