#!/bin/bash
# Shut this host of a Data Proc cluster down after so many minutes: the last resort against a cluster that nobody deletes.
# Data Proc runs it as root, once, when a host first starts (an initialization action; docs/orchestration.md).
set -euo pipefail

minutes=${1:-}
if ! [[ ${minutes} =~ ^[1-9][0-9]{0,4}$ ]]; then
  echo "shutdown_host.sh: minutes is '${minutes}'; expected a whole number such as 240 (shutdown_minutes of the settings)" >&2
  exit 2
fi

PATH="${PATH}:/usr/sbin:/sbin" # where shutdown is, for whoever is started with a short PATH
exec shutdown -P "+${minutes}" "This host has outlived its run of the retraining"
