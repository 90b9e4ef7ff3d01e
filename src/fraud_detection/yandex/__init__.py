"""What is Yandex Cloud's: IAM tokens of a machine's service account, and secrets from Lockbox."""
