#!/usr/bin/env bash
# Give Terraform the provider and the modules, so that the tests can run: from the registry where that answers, otherwise
# built from the provider's own source, at the version and with the checksums of tools/go.mod and go.sum.
set -euo pipefail

cd "$(dirname "$0")"
readonly CONFIG=bin/terraform.rc
readonly PROVIDER=github.com/yandex-cloud/terraform-provider-yandex

mkdir -p bin
: >"${CONFIG}"
export TF_CLI_CONFIG_FILE="${PWD}/${CONFIG}"
if [[ -z "${BUILD_PROVIDER:-}" ]] && terraform -chdir=.. init -backend=false -input=false >bin/init.log 2>&1; then
  echo "the provider is the registry's"
  exit 0
fi

if ! command -v go >/dev/null; then
  echo "test-infra: the registry of Terraform cannot be reached (infra/tests/bin/init.log), and go, which would build the" >&2
  echo "provider instead, is not installed; found: no go, expected: Go 1.26 or newer; see https://go.dev/doc/install" >&2
  exit 69
fi
echo "Building the provider (the first time this takes some ten minutes, with a warm cache seconds)"
# Go has authorities of its own; a bundle meant for S3 would replace them in what it starts.
env -u AWS_CA_BUNDLE go -C tools build -trimpath -ldflags='-s -w' -o ../bin/terraform-provider-yandex "${PROVIDER}"
cat >"${CONFIG}" <<END
provider_installation {
  dev_overrides {
    "yandex-cloud/yandex" = "${PWD}/bin"
  }
  direct {}
}
END
terraform -chdir=.. get >/dev/null 2>bin/init.log || { cat bin/init.log >&2; exit 1; }
echo "the provider is built from its source, $(go -C tools list -m "${PROVIDER}")"
