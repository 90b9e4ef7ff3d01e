# What the variables change.

mock_provider "yandex" {
  source = "./tests/mocks"
}

variables {
  cloud_id               = "b1g0cloud00000000000"
  folder_id              = "b1g0folder0000000000"
  bucket_prefix          = "acme-fraud"
  airflow_admin_password = "Not-a-Real-1-Password"
}

run "bastion" {
  variables {
    bastion = {
      cidrs          = ["203.0.113.7/32"]
      ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample me@desk"

      admin_ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIanother admin@desk"
    }
  }

  assert {
    condition     = startswith(output.mlflow_tunnel, "ssh -N -L 5000:10.130.0.10:5000 tunnel@")
    error_message = "the tunnel's command is ${output.mlflow_tunnel}"
  }
}

run "private_networks" {
  variables {
    mlflow_ui_cidrs = ["10.20.0.0/16", "192.168.4.0/24"]
  }
}

run "preemptible" {
  variables {
    dataproc = { preemptible = true, compute_count = 3 }
  }

  assert {
    condition     = output.variables.fraud_detection.preemptible && output.variables.fraud_detection.compute_count == 3
    error_message = "the DAG is not told"
  }
}

run "airflow_2" {
  variables {
    airflow = { version = "2.11", config = { api = { page_size_limit = "50" }, fraud_detection = { schedule = "0 */6 * * *" } } }
  }
}

run "airflow_secrets" {
  variables {
    airflow_secret_ids = ["e6q0webhook0secret00"]
  }
}

run "restored" {
  variables {
    postgres = { restore_backup_id = "c9q0old0cluster:stream.20260101T000000Z", restore_time = "2026-01-01T12:00:00", hosts = 2 }
  }
}

run "unprotected" {
  variables {
    deletion_protection = false
    storage             = { force_destroy = true }
  }
}

run "github" {
  variables {
    github = { repository = "acme/fraud" }
  }
}

run "locked" {
  variables {
    storage = { lock_days = 90 }
  }
}

run "elsewhere" {
  variables {
    project     = "fraud-test"
    zone        = "ru-central1-d"
    subnet_cidr = "172.16.8.0/22"
    labels      = { owner = "fraud-team" }
    mlflow_machine = {
      image_id = "fd80pinned0image0000"
    }
  }

  assert {
    condition     = output.mlflow_url == "http://fraud-test-mlflow.ru-central1.internal:5000" && output.variables.fraud_detection.project == "fraud-test"
    error_message = "names do not follow the project"
  }
}
