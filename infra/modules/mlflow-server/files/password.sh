#!/usr/bin/env bash
# Print a new password of 40 letters and digits, for Terraform's provider to put into Lockbox.
set -euo pipefail

password=$(head -c 1024 /dev/urandom | LC_ALL=C tr -dc 'A-Za-z0-9')
printf '%s' "${password:0:40}"
