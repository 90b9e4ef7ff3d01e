#!/usr/bin/env bash
# Make venvs/venv.tar.gz, the packages of the job for a cluster, from uv.lock; the same bytes on every desk.
#   scripts/create_venv_archive.sh [--output FILE] [--for cloud|this-machine]
# It runs in the environment of the cloud's tools (make create-venv-archive installs it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-.venv-cloud/bin/python}" -m deployment.archive "$@"
