# Airflow creates and deletes the clusters, one for each run; these are the resources that they use.
resource "yandex_iam_service_account" "this" {
  folder_id   = var.folder_id
  name        = "${var.name}-dataproc"
  description = "Data Proc clusters and the retraining job"
  labels      = var.labels
}

resource "yandex_resourcemanager_folder_iam_member" "this" {
  for_each = toset(["dataproc.agent", "dataproc.provisioner"])

  folder_id = var.folder_id
  role      = each.key
  member    = "serviceAccount:${yandex_iam_service_account.this.id}"
}

resource "yandex_logging_group" "this" {
  folder_id        = var.folder_id
  name             = "${var.name}-dataproc"
  description      = "Data Proc clusters and jobs"
  retention_period = var.log_retention
  labels           = var.labels
}

resource "yandex_vpc_security_group" "this" {
  folder_id   = var.folder_id
  network_id  = var.network_id
  name        = "${var.name}-dataproc"
  description = "Data Proc clusters"
  labels      = var.labels

  ingress {
    description       = "Between the nodes of a cluster"
    protocol          = "ANY"
    predefined_target = "self_security_group"
  }

  egress {
    description       = "Between the nodes of a cluster"
    protocol          = "ANY"
    predefined_target = "self_security_group"
  }

  egress {
    description    = "Object Storage and the cloud's API"
    protocol       = "TCP"
    port           = 443
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "Time"
    protocol       = "UDP"
    port           = 123
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "MLflow"
    protocol       = "TCP"
    port           = var.mlflow_port
    v4_cidr_blocks = [var.mlflow_cidr]
  }
}
