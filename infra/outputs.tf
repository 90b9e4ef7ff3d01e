output "mlflow_url" {
  description = "Address of MLflow within the network; from outside use the tunnel of docs/infrastructure.md."
  value       = module.mlflow_server.url
}

output "mlflow_admin_secret_id" {
  description = "Lockbox secret with the password of MLflow's user admin: `yc lockbox payload get ID`."
  value       = module.mlflow_server.admin_secret_id
}

output "mlflow_job_secret_id" {
  description = "Lockbox secret with MLflow's user job: username and password."
  value       = module.mlflow_server.job_secret_id
}

output "mlflow_tunnel" {
  description = "SSH command that forwards MLflow to http://localhost:5000; null without a bastion."
  value = module.mlflow_server.bastion_address == null ? null : join(" ", [
    "ssh -N -L 5000:${local.mlflow_address}:${local.mlflow_port}", "tunnel@${module.mlflow_server.bastion_address}"
  ])
}

output "airflow_id" {
  description = "The Managed Airflow cluster."
  value       = module.airflow_cluster.cluster_id
}

output "airflow_url" {
  description = "Airflow's web interface."
  value       = module.airflow_cluster.url
}

output "postgres_id" {
  description = "The PostgreSQL cluster. `yc managed-postgresql backup list` shows its backups."
  value       = module.postgres.cluster_id
}

output "deletion_protection" {
  description = "Whether the last apply switched the protection on; `make destroy` refuses while it is on."
  value       = var.deletion_protection
}

output "bucket_names" {
  description = "Bucket by purpose: code, input, output, work, mlflow."
  value       = module.storage.bucket_names
}

output "deployer_secret_id" {
  description = "Lockbox secret with access_key and secret_key for uploads by s3cmd."
  value       = module.storage.deployer_secret_id
}

output "service_account_ids" {
  description = "Service account by owner: airflow, dataproc, mlflow, deployer."
  value = {
    airflow  = module.airflow_cluster.service_account_id
    dataproc = module.dataproc.service_account_id
    mlflow   = module.mlflow_server.service_account_id
    deployer = module.storage.deployer_service_account_id
  }
}

output "network_id" {
  description = "The network."
  value       = module.network.network_id
}

output "subnet_id" {
  description = "The subnet of all resources."
  value       = module.network.subnet_id
}

output "security_group_ids" {
  description = "Security group by owner: airflow, dataproc, mlflow, postgres."
  value = {
    airflow  = module.airflow_cluster.security_group_id
    dataproc = module.dataproc.security_group_id
    mlflow   = module.mlflow_server.security_group_id
    postgres = module.postgres.security_group_id
  }
}

output "log_group_ids" {
  description = "Log group by owner: airflow, dataproc."
  value = {
    airflow  = module.airflow_cluster.log_group_id
    dataproc = module.dataproc.log_group_id
  }
}

output "folder_roles" {
  description = "All roles on the folder, by owner: airflow, dataproc."
  value = {
    airflow  = module.airflow_cluster.folder_roles
    dataproc = module.dataproc.folder_roles
  }
}

output "variables" {
  description = "Content of variables.json: Airflow's variable with the settings of the DAGs. It holds no secret."
  value = {
    fraud_detection = {
      zone               = var.zone
      subnet_id          = module.network.subnet_id
      security_group_id  = module.dataproc.security_group_id
      service_account_id = module.dataproc.service_account_id
      bucket             = module.storage.bucket_names["work"]
      code_uri           = local.code_uri
      input_uri          = "s3a://${module.storage.bucket_names["input"]}/input_data"
      output_uri         = "s3a://${module.storage.bucket_names["output"]}/output_data"
      tracking_uri       = module.mlflow_server.url
      mlflow_secret_id   = module.mlflow_server.job_secret_id

      project            = var.project
      connection         = "yandexcloud_default"
      folder_id          = var.folder_id
      storage_endpoint   = "https://storage.yandexcloud.net"
      webhook_connection = var.retraining.webhook_connection

      heartbeat_connection = var.retraining.heartbeat_connection
      check_mlflow         = var.retraining.check_mlflow

      model_name                 = var.retraining.model_name
      max_hours_without_decision = var.retraining.max_hours_without_decision
      max_failed_runs            = var.retraining.max_failed_runs
      retain                     = var.retraining.retain
      score                      = var.retraining.score
      daily_budget               = var.retraining.daily_budget
      currency                   = var.retraining.currency
      host_prices                = var.retraining.host_prices

      image_version    = var.dataproc.image_version
      master_preset    = var.dataproc.master_preset
      compute_preset   = var.dataproc.compute_preset
      compute_count    = var.dataproc.compute_count
      disk_type        = var.dataproc.disk_type
      disk_gib         = var.dataproc.disk_gib
      preemptible      = var.dataproc.preemptible
      os_login         = var.dataproc.os_login
      log_group_id     = module.dataproc.log_group_id
      spark_properties = var.dataproc.spark_properties
      # "" means none; the default is the script that is uploaded with the job.
      shutdown_script  = var.dataproc.shutdown_script == null ? "${local.code_uri}/shutdown_host.sh" : var.dataproc.shutdown_script
      shutdown_minutes = var.dataproc.shutdown_minutes
    }
  }
}
