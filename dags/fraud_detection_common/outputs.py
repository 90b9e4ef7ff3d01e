"""The job's output folder: outcomes and the schedule, read from object storage or from a local folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
import yandexcloud.auth
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.yandex.hooks.dataproc import DataprocHook

_HTTP_TIMEOUT = (10, 60)  # seconds to connect, and to wait for a response
_STORAGES = ("https://storage.yandexcloud.net", "https://storage.yandexcloud.kz")
_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")
_ABSENT = "NoSuchKey"
_TOLD = ("promoted", "needs_review")


@dataclass(frozen=True)
class RunOutputs:
    """The job's output folder, read in place."""

    endpoint: str
    """`https://storage.yandexcloud.net`, or `file:///…`, the local folder that holds the buckets."""
    bucket: str
    prefix: str
    credentials: Mapping[str, Any]
    """Those of the provider's hook; empty for the service account of the machine."""

    @classmethod
    def at(cls, hook: DataprocHook, endpoint: str, output_uri: str) -> RunOutputs:
        """The folder at `s3a://BUCKET/PREFIX`."""
        parts = urlsplit(output_uri)
        if parts.scheme not in ("s3a", "s3") or not parts.netloc:
            raise AirflowFailException(f"output_uri is {output_uri!r}; expected s3a://BUCKET/FOLDER")
        prefix = unquote(parts.path).strip("/")
        endpoint = endpoint.rstrip("/")
        require_storage(endpoint)
        return cls(endpoint, parts.netloc, f"{prefix}/" if prefix else "", hook.credentials)

    def outcome(self, job_name: str) -> dict[str, Any] | None:
        """The outcome that a job recorded; None if it recorded none."""
        content = self.read(f"outcomes/{job_name}.json")
        return None if content is None else dict(json.loads(content))

    def schedule(self, model_name: str) -> bytes | None:
        """What is due next, as the last job that decided left it; None before the first."""
        return self.read(f"schedule/{model_name}.json")

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None if it does not exist."""
        if self._is_local:
            return self._read_file(self._folder / self.prefix / name)
        return self._read_object(f"{self.endpoint}/{self.bucket}/{quote(self.prefix + name)}")

    @property
    def _is_local(self) -> bool:
        return self.endpoint.startswith("file://")

    @property
    def _folder(self) -> Path:
        return Path(unquote(urlsplit(self.endpoint).path)) / self.bucket

    def _read_file(self, path: Path) -> bytes | None:
        if not self._folder.is_dir():
            raise AirflowFailException(self._no_bucket)
        return path.read_bytes() if path.exists() else None

    def _read_object(self, url: str) -> bytes | None:
        """GET with an IAM token instead of static keys. A redirect is an error: its target would get the token."""
        token = yandexcloud.auth.get_auth_token(**self.credentials)
        headers = {"X-YaCloud-SubjectToken": token}
        answer = requests.get(url, headers=headers, timeout=_HTTP_TIMEOUT, allow_redirects=False)
        if answer.status_code == requests.codes.not_found:
            self._require_absent(url, answer.text)
            return None
        answer.raise_for_status()
        if answer.status_code != requests.codes.ok:
            raise AirflowFailException(
                f"{url} answers {answer.status_code} {answer.reason}, which is not followed with a token; "
                "next: correct storage_endpoint in variables.json, then make import-variables"
            )
        return answer.content

    def _require_absent(self, url: str, text: str) -> None:
        """Return if the object is absent. A missing bucket is a wrong setting, not a first run."""
        found = _ERROR_CODE.search(text)
        code = found[1] if found else "no code of an object storage"
        if code != _ABSENT:
            problem = self._no_bucket if code == "NoSuchBucket" else f"{url} answers 404 with {code}"
            raise AirflowFailException(problem)

    @property
    def _no_bucket(self) -> str:
        return (
            f"bucket {self.bucket} does not exist at {self.endpoint}; "
            "next: correct output_uri and code_uri in variables.json (make env), then make import-variables"
        )


def require_storage(endpoint: str) -> None:
    """Raise AirflowFailException unless the account's token may be sent to this storage.

    YC_METADATA_ADDR in Airflow's environment permits another one, as it does for the job (docs/storage.md).
    """
    if endpoint in _STORAGES or endpoint.startswith("file://") or os.environ.get("YC_METADATA_ADDR"):
        return
    raise AirflowFailException(
        f"storage_endpoint is {endpoint!r}, which may not have a token of the cloud; expected {_STORAGES[0]}"
    )


def is_repeated(outcome: Mapping[str, Any], dag_run: Any) -> bool:
    """Whether the decision was made, and reported, before this run began."""
    decided = outcome.get("decided_at")  # missing in outcomes of an earlier release
    return decided is not None and not _since(decided, dag_run)


def summary(outcome: Mapping[str, Any]) -> str:
    """An outcome in one line, for the run's note."""
    return _line(outcome, outcome.get("alarms", ()))  # earlier releases had none


def failure(outcome: Mapping[str, Any]) -> str:
    """How a job failed, and what it had decided by then: that is in force, and no later run reports it."""
    error = f"exit code {outcome['exit_code']}: {outcome['error']}"
    if outcome["decision"] is None:
        return f"the job ended with {error}"
    return f"the job decided, which stands, and then ended with {error}; {_line(outcome, ())}"


def message(outcome: Mapping[str, Any], dag_run: Any) -> str:
    """What a notification says; empty unless a person has to know: a new model, one to approve, a new alarm, or old
    results that could not be removed.

    An alarm lasts for many runs, and is told by the one that raised it. What the job has completed for a run that was
    killed, it tells in that run's place.
    """
    raised = [alarm for alarm in outcome.get("alarms", ()) if _since(alarm["raised_at"], dag_run)]
    own = not is_repeated(outcome, dag_run) and (outcome["decision"] in _TOLD or bool(raised))
    completed = [
        f"{_line(one, ())} (completed after the run for this time was interrupted)"
        for one in outcome.get("completed", ())  # earlier releases had none
        if one["decision"] in _TOLD and _since(one["completed_at"], dag_run)
        if not (own and one["as_of"] == outcome["as_of"])
    ]
    kept = (outcome.get("retention") or {}).get("error")  # once a day; earlier releases had none
    failure = f"{outcome['as_of']}: old results were not removed: {kept}"
    return "\n".join([*completed, *([_line(outcome, raised)] if own else []), *([failure] if kept else [])])


def _since(time: str, dag_run: Any) -> bool:
    return bool(datetime.fromisoformat(time) >= dag_run.start_date)


def _line(outcome: Mapping[str, Any], alarms: Iterable[Mapping[str, Any]]) -> str:
    if outcome["decision"] is None:
        return f"no decision was reached: exit code {outcome['exit_code']}: {outcome['error']}"
    what = f"promoted as v{outcome['version']}" if outcome["version"] else outcome["decision"].replace("_", " ")
    raised = "".join(f"ALARM: {alarm['text']}; " for alarm in alarms)
    return f"{raised}{outcome['as_of']}: {what}; {outcome['reason']}; {_scored(outcome)}report {outcome['report']}"


def _scored(outcome: Mapping[str, Any]) -> str:
    scores = outcome.get("scores")  # earlier releases had none
    if not scores:
        return ""
    return f"{scores['rows']} transactions scored by v{scores['version']}, {scores['alerts']} of them alerts; "
