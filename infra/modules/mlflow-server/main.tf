locals {
  region   = replace(var.zone, "/-[a-z]$/", "")
  hostname = "${var.name}-mlflow"
  fqdn     = "${local.hostname}.${local.region}.internal"

  # Settings of the machine; none of them is secret.
  server = {
    address           = "0.0.0.0"
    port              = var.port
    allowed_hosts     = [for host in [local.fqdn, var.address, "localhost", "127.0.0.1"] : "${host}:${var.port}"]
    workers           = 2
    postgres_host     = var.postgres.host
    postgres_port     = 6432
    postgres_user     = var.postgres.user
    databases         = var.postgres.databases
    ca_file           = "/opt/mlflow/yandex-cloud-ca.pem"
    bucket            = var.bucket
    storage_endpoint  = "https://storage.yandexcloud.net"
    region            = local.region
    secret_ids        = local.secret_ids
    metadata_endpoint = "http://169.254.169.254"
    lockbox_endpoint  = "https://payload.lockbox.api.cloud.yandex.net"
  }

  files = {
    "/opt/mlflow/install.sh"                      = { mode = "0755", content = file("${path.module}/files/install.sh") }
    "/opt/mlflow/serve.py"                        = { mode = "0644", content = file("${path.module}/files/serve.py") }
    "/opt/mlflow/accounts.py"                     = { mode = "0644", content = file("${path.module}/files/accounts.py") }
    "/opt/mlflow/requirements.txt"                = { mode = "0644", content = file("${path.module}/files/requirements.txt") }
    "/etc/mlflow/server.json"                     = { mode = "0644", content = jsonencode(local.server) }
    "/etc/systemd/system/mlflow-install.service"  = { mode = "0644", content = file("${path.module}/files/mlflow-install.service") }
    "/etc/systemd/system/mlflow.service"          = { mode = "0644", content = file("${path.module}/files/mlflow.service") }
    "/etc/systemd/system/mlflow-accounts.service" = { mode = "0644", content = file("${path.module}/files/mlflow-accounts.service") }
  }

  people = var.bastion.admin_ssh_public_key == null ? [] : [{
    name                = "admin"
    groups              = ["sudo"]
    shell               = "/bin/bash"
    sudo                = "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys = [var.bastion.admin_ssh_public_key]
  }]

  cloud_init = join("\n", ["#cloud-config", yamlencode({
    ssh_pwauth = false
    users = concat(local.people, [{
      name   = "mlflow"
      system = true
      shell  = "/usr/sbin/nologin"
    }])
    write_files = [for path, found in local.files : {
      path        = path
      permissions = found.mode
      encoding    = "b64"
      content     = base64encode(found.content)
    }]
    runcmd = [
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", "--now", "--no-block", "mlflow.service", "mlflow-accounts.service"],
    ]
  })])
}

data "yandex_compute_image" "this" {
  count = var.machine.image_id == null ? 1 : 0

  family = var.machine.image_family
}

# The machine has no state: runs are in PostgreSQL, artifacts in the bucket. A change of its settings replaces it.
resource "terraform_data" "boot" {
  input = sha256(local.cloud_init)
}

resource "yandex_vpc_security_group" "this" {
  folder_id   = var.folder_id
  network_id  = var.network_id
  name        = "${var.name}-mlflow"
  description = "MLflow's machine"
  labels      = var.labels

  dynamic "ingress" {
    for_each = var.clients

    content {
      description       = "As the user job: ${ingress.key}"
      protocol          = "TCP"
      port              = var.port
      security_group_id = ingress.value.security_group_id
    }
  }

  dynamic "ingress" {
    for_each = length(var.ui_cidrs) > 0 ? [1] : []

    content {
      description    = "People, from listed addresses"
      protocol       = "TCP"
      port           = var.port
      v4_cidr_blocks = var.ui_cidrs
    }
  }

  dynamic "ingress" {
    for_each = { for group in yandex_vpc_security_group.bastion[*].id : "bastion" => group }

    content {
      description       = "People, through the bastion"
      protocol          = "TCP"
      port              = var.port
      security_group_id = ingress.value
    }
  }

  dynamic "ingress" {
    for_each = { for group in yandex_vpc_security_group.bastion[*].id : "bastion" => group }

    content {
      description       = "Administration, through the bastion"
      protocol          = "TCP"
      port              = 22
      security_group_id = ingress.value
    }
  }

  egress {
    description    = "PostgreSQL"
    protocol       = "TCP"
    port           = 6432
    v4_cidr_blocks = [var.subnet_cidr]
  }

  egress {
    description    = "Lockbox, Object Storage, packages"
    protocol       = "TCP"
    port           = 443
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "Ubuntu's signed packages"
    protocol       = "TCP"
    port           = 80
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "Time"
    protocol       = "UDP"
    port           = 123
    v4_cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description    = "Names"
    protocol       = "UDP"
    port           = 53
    v4_cidr_blocks = [var.subnet_cidr]
  }
}

resource "yandex_compute_instance" "this" {
  folder_id          = var.folder_id
  name               = local.hostname
  hostname           = local.hostname
  description        = "MLflow's tracking server and model registry"
  platform_id        = var.machine.platform
  zone               = var.zone
  service_account_id = yandex_iam_service_account.this.id
  labels             = var.labels

  resources {
    cores         = var.machine.cores
    core_fraction = var.machine.core_fraction
    memory        = var.machine.memory_gib
  }

  boot_disk {
    initialize_params {
      image_id = var.machine.image_id == null ? data.yandex_compute_image.this[0].id : var.machine.image_id
      size     = var.machine.disk_gib
      type     = "network-ssd"
    }
  }

  network_interface {
    subnet_id          = var.subnet_id
    ip_address         = var.address
    nat                = false
    security_group_ids = [yandex_vpc_security_group.this.id]
  }

  metadata = {
    user-data          = local.cloud_init
    serial-port-enable = "0"
  }

  metadata_options {
    gce_http_endpoint    = 1 # where the machine's own token comes from
    gce_http_token       = 1
    aws_v1_http_endpoint = 2
    aws_v1_http_token    = 2
    aws_v2_http_endpoint = 2
    aws_v2_http_token    = 2
  }

  lifecycle {
    replace_triggered_by = [terraform_data.boot]
    ignore_changes       = [boot_disk[0].initialize_params[0].image_id] # a newer image comes with the next machine
  }

  depends_on = [
    yandex_lockbox_secret_iam_member.server,
    yandex_lockbox_secret_version.job,
    yandex_lockbox_secret_version.password,
    yandex_iam_service_account_static_access_key.this,
  ]
}
