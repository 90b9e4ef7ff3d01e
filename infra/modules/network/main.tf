resource "yandex_vpc_network" "this" {
  folder_id   = var.folder_id
  name        = var.name
  description = "Retraining of the fraud model"
  labels      = var.labels
}

# Outgoing traffic of machines without a public address.
resource "yandex_vpc_gateway" "nat" {
  folder_id = var.folder_id
  name      = "${var.name}-nat"
  labels    = var.labels

  shared_egress_gateway {}
}

resource "yandex_vpc_route_table" "nat" {
  folder_id  = var.folder_id
  name       = "${var.name}-nat"
  network_id = yandex_vpc_network.this.id
  labels     = var.labels

  static_route {
    destination_prefix = "0.0.0.0/0"
    gateway_id         = yandex_vpc_gateway.nat.id
  }
}

resource "yandex_vpc_subnet" "this" {
  folder_id      = var.folder_id
  name           = "${var.name}-${var.zone}"
  network_id     = yandex_vpc_network.this.id
  zone           = var.zone
  v4_cidr_blocks = [var.subnet_cidr]
  route_table_id = yandex_vpc_route_table.nat.id
  labels         = var.labels
}

# The default group of a new network admits everything, for every machine without a security group of its own.
resource "yandex_vpc_default_security_group" "closed" {
  network_id  = yandex_vpc_network.this.id
  description = "Closed: give each machine a group of its own"
  labels      = var.labels
}
