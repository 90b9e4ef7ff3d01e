#!/usr/bin/env bash
# Copy to the cloud's buckets with s3cmd what is new or different there:
#   scripts/upload_to_s3.sh venv|src|dags|data…     the environment archive, the job, the DAGs, data/input_data
# Buckets and address come from .env (make env). The key comes from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from
# the deployer's secret in Lockbox by yc; it is never an argument of a program.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-.venv-cloud/bin/python}" -m deployment.bucket upload "$@"
