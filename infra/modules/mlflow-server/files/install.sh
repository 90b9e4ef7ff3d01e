#!/usr/bin/env bash
# Install MLflow's server, once. mlflow-install.service runs it again until it succeeds.
set -euo pipefail

readonly HOME_FOLDER=/opt/mlflow
readonly DONE="${HOME_FOLDER}/installed"

if ! python3 -c 'import ensurepip' 2>/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
fi

# The authority that signs managed PostgreSQL's certificates.
curl --fail --silent --show-error --location --retry 5 --proto '=https' --tlsv1.2 \
  --output "${HOME_FOLDER}/ca.part" https://storage.yandexcloud.net/cloud-certs/CA.pem
mv "${HOME_FOLDER}/ca.part" "${HOME_FOLDER}/yandex-cloud-ca.pem"

rm -rf "${HOME_FOLDER}/venv"
python3 -m venv "${HOME_FOLDER}/venv"
"${HOME_FOLDER}/venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
  --require-hashes --no-deps --only-binary :all: --requirement "${HOME_FOLDER}/requirements.txt"

touch "${DONE}"
