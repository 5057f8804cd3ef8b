output "host" {
  value = terraform_data.instance.output.host
}

output "url" {
  value = "postgres://${terraform_data.instance.output.host}:${terraform_data.instance.output.port}/${var.database_name}"
}

output "password" {
  value     = terraform_data.password.output
  sensitive = true
}
