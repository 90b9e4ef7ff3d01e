# Optional access for people: SSH tunnels to MLflow, and nothing else.
locals {
  bastions = length(var.bastion.cidrs) > 0 ? 1 : 0

  # Whoever may open MLflow reaches its port alone; SSH of its machine takes the administrator's key.
  tunnels = merge(
    var.bastion.ssh_public_key == null ? {} : { tunnel = { key = var.bastion.ssh_public_key, port = var.port } },
    var.bastion.admin_ssh_public_key == null ? {} : { jump = { key = var.bastion.admin_ssh_public_key, port = 22 } },
  )
}

resource "yandex_vpc_security_group" "bastion" {
  count = local.bastions

  folder_id   = var.folder_id
  network_id  = var.network_id
  name        = "${var.name}-bastion"
  description = "SSH tunnels to MLflow"
  labels      = var.labels

  ingress {
    description    = "SSH, from listed addresses"
    protocol       = "TCP"
    port           = 22
    v4_cidr_blocks = var.bastion.cidrs
  }

  egress {
    description    = "MLflow"
    protocol       = "TCP"
    port           = var.port
    v4_cidr_blocks = ["${var.address}/32"]
  }

  egress {
    description    = "Administration of MLflow's machine"
    protocol       = "TCP"
    port           = 22
    v4_cidr_blocks = ["${var.address}/32"]
  }
}

resource "yandex_compute_instance" "bastion" {
  count = local.bastions

  folder_id   = var.folder_id
  name        = "${var.name}-bastion"
  hostname    = "${var.name}-bastion"
  description = "SSH tunnels to MLflow"
  platform_id = var.machine.platform
  zone        = var.zone
  labels      = var.labels

  allow_stopping_for_update = true

  resources {
    cores         = 2
    core_fraction = 20
    memory        = 1
  }

  boot_disk {
    initialize_params {
      image_id = var.machine.image_id == null ? data.yandex_compute_image.this[0].id : var.machine.image_id
      size     = 10
      type     = "network-hdd"
    }
  }

  # checkov:skip=CKV_YC_2:the one machine with a public address; it exists only if bastion.cidrs lists the permitted addresses
  network_interface {
    subnet_id          = var.subnet_id
    nat                = true
    security_group_ids = [yandex_vpc_security_group.bastion[0].id]
  }

  metadata = {
    serial-port-enable = "0"
    user-data = join("\n", ["#cloud-config", yamlencode({
      ssh_pwauth = false
      users = [for name, tunnel in local.tunnels : {
        name                = name
        shell               = "/usr/sbin/nologin"
        ssh_authorized_keys = ["restrict,port-forwarding,permitopen=\"${var.address}:${tunnel.port}\" ${tunnel.key}"]
      }]
    })])
  }

  # It reaches no package server, so it cannot be patched: a newer image of the family replaces it at the next apply.
}
