"""The code that a run takes: one revision for all its files, whatever is uploaded meanwhile."""

from __future__ import annotations

import json

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.yandex.hooks.dataproc import DataprocHook

from fraud_detection_common.outputs import RunOutputs


def current_code(hook: DataprocHook, endpoint: str, code_uri: str) -> dict[str, str]:
    """The folder and the environment archive that `code_uri/current.json` names: `code` and `venv`, as addresses.

    Raises:
        AirflowFailException: no code has been uploaded.
    """
    content = RunOutputs.at(hook, endpoint, code_uri).read("current.json")
    if content is None:
        raise AirflowFailException(f"{code_uri}/current.json does not exist; next: make upload-src-to-bucket")
    found = json.loads(content)
    return {"code": f"{code_uri}/{found['folder']}", "venv": f"{code_uri}/{found['venv']}"}
