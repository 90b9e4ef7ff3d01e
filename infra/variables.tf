# Location.

variable "cloud_id" {
  type        = string
  description = "Id of the cloud: `yc config get cloud-id`."
}

variable "folder_id" {
  type        = string
  description = "Id of the folder, preferably a separate one: `yc config get folder-id`."

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{19}$", var.folder_id))
    error_message = "folder_id is an id of 20 letters and digits, not a name; find it with: yc resource-manager folder list."
  }
}

variable "zone" {
  type        = string
  description = "Availability zone of all resources."
  default     = "ru-central1-b"

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z]+[0-9]-[a-z]$", var.zone))
    error_message = "zone is such as ru-central1-b; list them with: yc compute zone list."
  }
}

variable "subnet_cidr" {
  type        = string
  description = "Addresses of the subnet: each component of Airflow takes two, each node of Data Proc one."
  default     = "10.130.0.0/24"

  validation {
    condition = (can(cidrhost(var.subnet_cidr, 10)) && can(regex("/(1[6-9]|2[0-6])$", var.subnet_cidr))
    && can(regex("^(10|172|192)\\.", var.subnet_cidr)) && cidrsubnet(var.subnet_cidr, 0, 0) == var.subnet_cidr)
    error_message = "subnet_cidr is a private network of /16 to /26, such as 10.130.0.0/24."
  }

  validation {
    condition     = !can(regex("^10\\.(24[89]|25[0-5])\\.", var.subnet_cidr))
    error_message = "subnet_cidr may not overlap 10.248.0.0/13: Managed Airflow's own components are there."
  }
}

# Names and labels.

variable "project" {
  type        = string
  description = "Prefix of all names, and the label `project` of all resources and clusters."
  default     = "fraud-detection"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{1,30}[a-z0-9])$", var.project))
    error_message = "project is 3 to 32 small letters, digits and hyphens, begins with a letter, and does not end with a hyphen."
  }
}

variable "labels" {
  type        = map(string)
  description = "Further labels of all resources, such as owner or cost centre."
  default     = {}

  validation {
    condition = alltrue([for key, value in var.labels :
    can(regex("^[a-z][-_0-9a-z]{0,62}$", key)) && can(regex("^[-_0-9a-z]{0,63}$", value))])
    error_message = "labels: keys and values are small letters, digits, hyphens and underscores, 63 at most; keys begin with a letter."
  }
}

variable "bucket_prefix" {
  type        = string
  description = "Prefix of the bucket names, unique in Yandex Cloud; -code, -input, -output, -work and -mlflow are appended."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{2,55}$", var.bucket_prefix))
    error_message = "bucket_prefix is 3 to 56 small letters, digits and hyphens (a dot would break TLS), such as acme-fraud."
  }
}

# Protection and retention.

variable "deletion_protection" {
  type        = bool
  description = "Protect PostgreSQL, Airflow, keys and secrets from deletion. To destroy them, apply with false first."
  default     = true
}

variable "storage" {
  description = "Buckets: days until old versions and job logs are deleted, for how long decisions are locked (0: not), and whether destroy deletes objects."
  type = object({
    old_versions_days        = optional(number, 30)
    old_output_versions_days = optional(number, 365)
    lock_days                = optional(number, 0)
    job_logs_days            = optional(number, 30)
    force_destroy            = optional(bool, false)
  })
  default = {}

  validation {
    condition     = min(var.storage.old_versions_days, var.storage.old_output_versions_days, var.storage.job_logs_days) >= 1
    error_message = "storage: old_versions_days, old_output_versions_days and job_logs_days are at least 1."
  }

  validation {
    condition     = var.storage.lock_days >= 0 && var.storage.lock_days <= var.storage.old_output_versions_days
    error_message = "storage.lock_days is 0 (no lock) to old_output_versions_days: a locked version cannot expire."
  }

  validation {
    condition     = !(var.storage.force_destroy && var.storage.lock_days > 0)
    error_message = "storage.force_destroy cannot delete locked versions; set lock_days to 0 first, and wait until they are free."
  }
}

variable "log_retention" {
  type        = string
  description = "Retention of the logs of Airflow and Data Proc."
  default     = "72h0m0s"

  validation {
    condition     = can(regex("^[0-9]+h(0m0s)?$", var.log_retention))
    error_message = "log_retention is a number of hours, such as 72h0m0s."
  }
}

variable "github" {
  description = "The GitHub repository (OWNER/NAME) and the environment whose workflow may upload as the deployer (docs/deploy.md). None by default."
  type = object({
    repository  = optional(string)
    environment = optional(string, "production")
  })
  default = {}

  validation {
    condition     = var.github.repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository is OWNER/NAME, such as acme/fraud."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+$", var.github.environment))
    error_message = "github.environment is the name of an environment of the repository: any other subject would be trusted, too."
  }
}

# PostgreSQL and MLflow.

variable "postgres" {
  description = "PostgreSQL of MLflow: major version (ask which are offered: docs/deploy.md, step 0), size, daily backup, maintenance, and the backup to restore (docs/operations.md)."
  type = object({
    version           = optional(string, "16")
    preset            = optional(string, "c3-c2-m4")
    disk_type         = optional(string, "network-ssd")
    disk_gib          = optional(number, 10)
    hosts             = optional(number, 1)
    backup_hour_utc   = optional(number, 1)
    backup_days       = optional(number, 14)
    maintenance_day   = optional(string, "SUN")
    maintenance_hour  = optional(number, 3)
    restore_backup_id = optional(string)
    restore_time      = optional(string)
  })
  default = {}

  validation {
    condition     = can(regex("^[1-9][0-9]$", var.postgres.version)) && try(tonumber(var.postgres.version), 0) >= 15
    error_message = "postgres.version is 15 or newer, of those that the service offers (docs/deploy.md, step 0): PostgreSQL 14 has had no updates since November 2026."
  }

  validation {
    condition     = var.postgres.hosts >= 1 && var.postgres.hosts <= 3 && var.postgres.disk_gib >= 10
    error_message = "postgres: hosts is 1 to 3, disk_gib at least 10."
  }

  validation {
    condition     = var.postgres.backup_days >= 7 && var.postgres.backup_days <= 60
    error_message = "postgres.backup_days is 7 to 60: that far back the database can be restored."
  }

  validation {
    condition     = var.postgres.backup_hour_utc >= 0 && var.postgres.backup_hour_utc <= 23
    error_message = "postgres.backup_hour_utc is 0 to 23."
  }

  validation {
    condition     = var.postgres.restore_time == null || var.postgres.restore_backup_id != null
    error_message = "postgres.restore_time needs restore_backup_id; list backups with: yc managed-postgresql backup list."
  }
}

variable "mlflow_machine" {
  description = "MLflow's machine. `image_id` pins the image; otherwise a new machine uses the newest image of the family."
  type = object({
    platform      = optional(string, "standard-v3")
    cores         = optional(number, 2)
    core_fraction = optional(number, 50)
    memory_gib    = optional(number, 4)
    disk_gib      = optional(number, 20)
    image_family  = optional(string, "ubuntu-2404-lts")
    image_id      = optional(string)
  })
  default = {}

  validation {
    condition     = var.mlflow_machine.memory_gib >= 4 && var.mlflow_machine.disk_gib >= 15
    error_message = "mlflow_machine: memory_gib is at least 4, disk_gib at least 15."
  }

  validation {
    condition     = contains([20, 50, 100], var.mlflow_machine.core_fraction)
    error_message = "mlflow_machine.core_fraction is 20, 50 or 100."
  }
}

variable "mlflow_ui_cidrs" {
  type        = list(string)
  description = "Private networks (VPN, Interconnect) from which people may open MLflow. The machine has no public address."
  default     = []

  validation {
    condition     = alltrue([for cidr in var.mlflow_ui_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "mlflow_ui_cidrs are networks such as 10.20.0.0/16, never the whole internet (/0)."
  }
}

variable "bastion" {
  description = "A small public machine for SSH tunnels to MLflow: the addresses it admits, the public key of people who open MLflow, and the one of who administers its machine. None by default."
  type = object({
    cidrs                = optional(list(string), [])
    ssh_public_key       = optional(string)
    admin_ssh_public_key = optional(string)
  })
  default = {}

  validation {
    condition     = alltrue([for cidr in var.bastion.cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "bastion.cidrs are networks such as 203.0.113.7/32, never the whole internet (/0)."
  }

  validation {
    condition     = length(var.bastion.cidrs) == 0 || var.bastion.ssh_public_key != null
    error_message = "bastion.cidrs needs bastion.ssh_public_key, the content of a file such as ~/.ssh/id_ed25519.pub."
  }

  validation {
    condition = alltrue([for key in [var.bastion.ssh_public_key, var.bastion.admin_ssh_public_key] :
    key == null || can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) [^\n]*$", key))])
    error_message = "bastion: ssh_public_key and admin_ssh_public_key are public keys, one line that begins with ssh-ed25519, ssh-rsa or ecdsa-sha2-nistp256."
  }

  validation {
    condition     = var.bastion.admin_ssh_public_key == null || var.bastion.admin_ssh_public_key != var.bastion.ssh_public_key
    error_message = "bastion.admin_ssh_public_key is another key than ssh_public_key: who opens MLflow does not administer its machine."
  }
}

# Airflow.

variable "airflow_admin_password" {
  type        = string
  sensitive   = true
  description = "Password of Airflow's user admin, from TF_VAR_airflow_admin_password. It stays in the state (docs/security.md)."

  validation {
    condition = (length(var.airflow_admin_password) >= 12 && can(regex("[a-z]", var.airflow_admin_password))
      && can(regex("[A-Z]", var.airflow_admin_password)) && can(regex("[0-9]", var.airflow_admin_password))
    && can(regex("[^A-Za-z0-9]", var.airflow_admin_password)))
    error_message = "airflow_admin_password has at least 12 characters: small and capital letters, a digit, a special character."
  }
}

variable "airflow_secret_ids" {
  type        = set(string)
  description = "Lockbox secrets that Airflow may read, such as a webhook's connection (airflow/connections/NAME)."
  default     = []
}

variable "airflow" {
  description = "Managed Airflow: versions, sizes, packages, options of airflow.cfg by section, maintenance. Versions are closed to new clusters within a year and updated by force: ask which are offered (docs/deploy.md, step 0)."
  type = object({
    version        = optional(string, "3.1")
    python_version = optional(string, "3.12")
    webserver      = optional(object({ count = number, preset = string }), { count = 1, preset = "c1-m4" })
    scheduler      = optional(object({ count = number, preset = string }), { count = 1, preset = "c1-m4" })
    dag_processor  = optional(object({ count = number, preset = string }), { count = 1, preset = "c1-m2" })
    worker         = optional(object({ min_count = number, max_count = number, preset = string }), { min_count = 1, max_count = 1, preset = "c1-m4" })
    pip_packages = optional(set(string), [
      "apache-airflow-providers-common-compat==1.23.0",
      "apache-airflow-providers-slack==9.11.1",
      "apache-airflow-providers-yandex==4.6.1",
      "yandexcloud==0.413.0",
    ])
    config           = optional(map(map(string)), {})
    maintenance_day  = optional(string, "SUN")
    maintenance_hour = optional(number, 4)
  })
  default = {}

  validation {
    condition     = can(regex("^(2\\.11|3\\.[1-9][0-9]*)/3\\.1[1-9]$", "${var.airflow.version}/${var.airflow.python_version}"))
    error_message = "airflow: version 2.11, 3.1 or newer, of those that the service offers, with python_version 3.11 or newer; the DAGs do not run on 2.10 and 3.0."
  }

  validation {
    condition     = var.airflow.worker.min_count >= 1 && var.airflow.worker.max_count >= var.airflow.worker.min_count
    error_message = "airflow.worker: min_count is at least 1, max_count at least min_count."
  }
}

# Data Proc and the DAG, whose settings go to variables.json.

variable "dataproc" {
  description = "The cluster of one run: image (2.2 is offered on request: docs/deploy.md, step 0), sizes, preemptible compute nodes, and the script that shuts leftover hosts down (\"\" for none)."
  type = object({
    image_version    = optional(string, "2.2")
    master_preset    = optional(string, "s3-c4-m16")
    compute_preset   = optional(string, "s3-c4-m16")
    compute_count    = optional(number, 1)
    disk_type        = optional(string, "network-ssd")
    disk_gib         = optional(number, 64)
    preemptible      = optional(bool, false)
    os_login         = optional(bool, true)
    spark_properties = optional(map(string), {})
    shutdown_script  = optional(string)
    shutdown_minutes = optional(number, 240)
  })
  default = {}

  validation {
    condition     = can(regex("^2\\.[2-9]", var.dataproc.image_version))
    error_message = "dataproc.image_version is 2.2 or newer: the job needs the image's Python 3.11."
  }

  validation {
    condition     = var.dataproc.compute_count >= 1 && var.dataproc.compute_count <= 32
    error_message = "dataproc.compute_count is 1 to 32."
  }

  validation {
    condition     = var.dataproc.disk_gib >= 30
    error_message = "dataproc.disk_gib is at least 30."
  }

  validation {
    condition     = var.dataproc.shutdown_minutes >= 185
    error_message = "dataproc.shutdown_minutes is at least 185: a run that is only slow may need its cluster for 184 minutes (two tries to create, two to train, the pauses, and one to delete)."
  }

  validation {
    condition     = var.dataproc.shutdown_script == null || var.dataproc.shutdown_script == "" || can(regex("^(s3a|https)://.", var.dataproc.shutdown_script))
    error_message = "dataproc.shutdown_script is s3a://BUCKET/FILE or https://…; leave it out for the repository's own, \"\" for none."
  }
}

variable "retraining" {
  description = "Settings of the DAG's decision to run (docs/orchestration.md)."
  type = object({
    model_name                 = optional(string, "fraud_detection")
    max_hours_without_decision = optional(number, 24)
    max_failed_runs            = optional(number, 3)
    daily_budget               = optional(number, 0)
    currency                   = optional(string, "")
    host_prices                = optional(map(number), {})
    check_mlflow               = optional(bool, true)
    retain                     = optional(bool, true)
    score                      = optional(bool, true)
    webhook_connection         = optional(string, "")
    heartbeat_connection       = optional(string, "")
  })
  default = {}

  validation {
    condition     = var.retraining.max_hours_without_decision > 0 && var.retraining.max_failed_runs >= 1
    error_message = "retraining: max_hours_without_decision is more than 0, max_failed_runs at least 1."
  }

  validation {
    condition     = var.retraining.daily_budget >= 0 && alltrue([for price in values(var.retraining.host_prices) : price > 0])
    error_message = "retraining: daily_budget is at least 0 (0: no limit), each of host_prices more than 0."
  }

  validation {
    condition     = var.retraining.daily_budget == 0 || (var.retraining.currency != "" && length(var.retraining.host_prices) > 0)
    error_message = "retraining: daily_budget needs currency and host_prices, the price of an hour of one host by host class (docs/orchestration.md)."
  }
}
