output "network_id" {
  description = "The network."
  value       = yandex_vpc_network.this.id
}

output "subnet_id" {
  description = "The subnet, with outgoing traffic through the NAT gateway."
  value       = yandex_vpc_subnet.this.id
}
