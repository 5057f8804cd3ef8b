# A database, modelled with Terraform's built-in provider so that it runs anywhere, without a cloud account.
terraform {
  required_version = ">= 1.4"
}

variable "region" {
  type        = string
  description = "Region of the install"
}

variable "database_name" {
  type = string
}

resource "terraform_data" "network" {
  input = {
    region = var.region
    cidr   = "10.20.0.0/16"
  }
}

resource "terraform_data" "instance" {
  input = {
    name    = var.database_name
    host    = "${var.database_name}.db.${terraform_data.network.output.region}.internal"
    port    = 5432
    network = terraform_data.network.id
  }
}

# Stands for the password that a real provider would generate: never the same for two installs.
resource "terraform_data" "password" {
  input = sha256("${terraform_data.instance.id}/${terraform_data.network.id}")
}
