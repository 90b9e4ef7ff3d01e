# Lets the workflow of one environment of one GitHub repository act as the deployer, without a key at GitHub.
locals {
  federations = var.github.repository == null ? 0 : 1
}

resource "yandex_iam_workload_identity_oidc_federation" "github" {
  count = local.federations

  folder_id   = var.folder_id
  name        = "${var.name}-github"
  description = "Identities of GitHub's workflows"
  issuer      = "https://token.actions.githubusercontent.com"
  jwks_url    = "https://token.actions.githubusercontent.com/.well-known/jwks"
  audiences   = ["https://github.com/${split("/", var.github.repository)[0]}"]
  labels      = var.labels
}

resource "yandex_iam_workload_identity_federated_credential" "github" {
  count = local.federations

  service_account_id  = yandex_iam_service_account.deployer.id
  federation_id       = yandex_iam_workload_identity_oidc_federation.github[0].id
  external_subject_id = "repo:${var.github.repository}:environment:${var.github.environment}"
}
