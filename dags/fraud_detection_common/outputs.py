"""The job's output folder: outcomes, maturity and decisions, read from object storage or from a local folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import requests
import yandexcloud.auth
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.yandex.hooks.dataproc import DataprocHook

_HTTP_TIMEOUT = (10, 60)  # seconds to connect, and to wait for a response
_S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_DECISION = re.compile(r"(\d{8}T\d{6}Z)\.json")


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
        return cls(endpoint.rstrip("/"), parts.netloc, f"{prefix}/" if prefix else "", hook.credentials)

    def outcome(self, job_name: str) -> dict[str, Any] | None:
        """The outcome that a job recorded; None if it recorded none."""
        content = self.read(f"outcomes/{job_name}.json")
        return None if content is None else dict(json.loads(content))

    def maturity(self, model_name: str) -> dict[str, Any] | None:
        """Known frauds by the hour in which they mature, as of the last job that decided; None before the first."""
        content = self.read(f"maturity/{model_name}.json")
        return None if content is None else dict(json.loads(content))

    def decision(self, model_name: str, as_of: datetime) -> dict[str, Any] | None:
        """The decision of an as-of time; None if there is none."""
        content = self.read(f"decisions/{model_name}/{as_of:%Y%m%dT%H%M%SZ}.json")
        return None if content is None else dict(json.loads(content))

    def last_decision(self, model_name: str, since: datetime) -> datetime | None:
        """The newest as-of time with a decision, from the names of the decisions at or after `since` alone."""
        folder = f"decisions/{model_name}/"
        names = self.names(folder, after=f"{folder}{since - timedelta(seconds=1):%Y%m%dT%H%M%SZ}.json")
        stamps = [match[1] for name in names if (match := _DECISION.fullmatch(name.removeprefix(folder)))]
        return datetime.strptime(max(stamps), "%Y%m%dT%H%M%S%z") if stamps else None

    def is_champion_retired(self, model_name: str, since: datetime) -> bool:
        """Whether a person has retired the champion after the decision at `since`, from the names in the log alone."""
        folder = f"decisions/{model_name}/"
        names = self.names(folder, after=f"{folder}{since:%Y%m%dT%H%M%SZ}.json")
        return any(name.endswith("-retire-champion.json") for name in names)

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None if it does not exist."""
        if self._is_local:
            path = self._folder / self.prefix / name
            return path.read_bytes() if path.exists() else None
        answer = self._get(f"/{self.bucket}/{quote(self.prefix + name)}", {})
        return None if answer is None else answer.content

    def names(self, folder: str, after: str = "") -> list[str]:
        """The sorted names in a folder (`a/b/`) that come after `after`."""
        if self._is_local:
            names = [folder + path.name for path in (self._folder / self.prefix / folder).glob("*")]
            return sorted(name for name in names if name > after)
        query = {"list-type": "2", "prefix": self.prefix + folder}
        if after:
            query["start-after"] = self.prefix + after
        names = []
        while True:
            answer = self._get(f"/{self.bucket}", query)
            if answer is None:
                raise AirflowFailException(f"bucket {self.bucket} does not exist at {self.endpoint}")
            page = ElementTree.fromstring(answer.content)  # noqa: S314  (of our own storage)
            names += [(key.text or "").removeprefix(self.prefix) for key in page.iterfind(f"{_S3}Contents/{_S3}Key")]
            token = page.findtext(f"{_S3}NextContinuationToken")
            if not token:
                return names
            query["continuation-token"] = token

    @property
    def _is_local(self) -> bool:
        return self.endpoint.startswith("file://")

    @property
    def _folder(self) -> Path:
        return Path(unquote(urlsplit(self.endpoint).path)) / self.bucket

    def _get(self, path: str, query: Mapping[str, str]) -> requests.Response | None:
        """GET with an IAM token instead of static keys; None for 404."""
        token = yandexcloud.auth.get_auth_token(**self.credentials)
        headers = {"X-YaCloud-SubjectToken": token}
        answer = requests.get(self.endpoint + path, params=query, headers=headers, timeout=_HTTP_TIMEOUT)
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer


def is_repeated(outcome: Mapping[str, Any], dag_run: Any) -> bool:
    """Whether the decision was made, and reported, before this run began."""
    decided = outcome.get("decided_at")  # missing in outcomes of an earlier release
    return decided is not None and datetime.fromisoformat(decided) < dag_run.start_date


def summary(outcome: Mapping[str, Any]) -> str:
    """An outcome in one line, for the run's note and for notifications."""
    if outcome["decision"] is None:
        return f"no decision was reached: exit code {outcome['exit_code']}: {outcome['error']}"
    what = f"promoted as v{outcome['version']}" if outcome["version"] else outcome["decision"].replace("_", " ")
    alarms = "".join(f"ALARM: {alarm}; " for alarm in outcome.get("alarms", ()))  # earlier releases had none
    return f"{alarms}{outcome['as_of']}: {what}; {outcome['reason']}; report {outcome['report']}"
