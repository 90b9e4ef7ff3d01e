# The defaults, planned and applied against the provider's real schema.

mock_provider "yandex" {
  source = "./tests/mocks"
}

variables {
  cloud_id               = "b1g0cloud00000000000"
  folder_id              = "b1g0folder0000000000"
  bucket_prefix          = "acme-fraud"
  airflow_admin_password = "Not-a-Real-1-Password"
}

run "plan" {
  command = plan

  assert {
    condition     = output.variables.fraud_detection.output_uri == "s3a://acme-fraud-output/output_data"
    error_message = "a plan does not tell where results go"
  }
}

run "apply" {
  assert {
    condition     = output.mlflow_url == "http://fraud-detection-mlflow.ru-central1.internal:5000"
    error_message = "the job would look for MLflow at ${output.mlflow_url}"
  }

  assert {
    condition     = output.airflow_url == "https://c-enp0airflow0cluster0.airflow.yandexcloud.net"
    error_message = "Airflow's address is ${output.airflow_url}"
  }

  assert {
    condition     = jsonencode(output.bucket_names) == jsonencode({ for purpose in ["code", "input", "output", "work", "mlflow"] : purpose => "acme-fraud-${purpose}" })
    error_message = "buckets are ${jsonencode(output.bucket_names)}"
  }

  assert {
    condition     = output.mlflow_tunnel == null
    error_message = "there is a bastion that nobody asked for"
  }

  assert {
    condition = jsonencode(output.folder_roles) == jsonencode({
      airflow  = ["dataproc.editor", "managed-airflow.integrationProvider", "vpc.user"]
      dataproc = ["dataproc.agent", "dataproc.provisioner"]
    })
    error_message = "roles on the folder differ from docs/security.md: ${jsonencode(output.folder_roles)}"
  }

  assert {
    condition = (output.variables.fraud_detection.service_account_id == output.service_account_ids.dataproc
      && output.variables.fraud_detection.security_group_id == output.security_group_ids.dataproc
      && output.variables.fraud_detection.subnet_id == output.subnet_id
      && output.variables.fraud_detection.log_group_id == output.log_group_ids.dataproc
      && output.variables.fraud_detection.mlflow_secret_id == output.mlflow_job_secret_id
    && output.variables.fraud_detection.tracking_uri == output.mlflow_url)
    error_message = "the DAG would not get what was made"
  }

  assert {
    condition = length(distinct(concat(values(output.service_account_ids), values(output.security_group_ids),
    values(output.log_group_ids), [output.subnet_id, output.network_id]))) == 12
    error_message = "two outputs are the same: one is wired to the wrong resource"
  }
}
