"""Yandex Cloud: IAM tokens of a machine's service account, and secrets from Lockbox."""
