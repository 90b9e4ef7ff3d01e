"""MLflow's registry in memory, for tests that need thousands of promotions."""

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException


class Page(list[Any]):
    """The only page of an answer."""

    token = None


class FakeMlflow:
    """What the registry asks of an `MlflowClient`, with one registered model."""

    def __init__(self) -> None:
        self.versions: dict[int, SimpleNamespace] = {}
        self.aliases: dict[str, int] = {}
        self.tags: dict[str, str] = {}
        self.created = time.time() * 1000
        self.runs: dict[str, SimpleNamespace] = {}
        self.uploads: Counter[tuple[str, str]] = Counter()
        """How often each file of each run was uploaded."""
        self._made = 0

    def add_run(self, run_id: str, **tags: str) -> Any:
        info = SimpleNamespace(run_id=run_id, artifact_uri=run_id, start_time=self._made, status="RUNNING")
        self.runs[run_id] = SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(tags)))
        return self.runs[run_id]

    def get_run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def search_runs(self, _experiments: list[str], condition: str, *, page_token: str | None) -> Any:
        assert page_token is None
        wanted = condition.rpartition(" = ")[2].strip("'")
        found = (run for run in self.runs.values() if wanted in (run.info.status, *run.data.tags.values()))
        return Page(found)

    def get_registered_model(self, _name: str) -> Any:
        return SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.tags), creation_timestamp=self.created)

    def get_model_version(self, _name: str, version: str) -> Any:
        return self.versions[int(version)]

    def search_model_versions(self, condition: str) -> list[Any]:
        return [found for found in self.versions.values() if _meets(found, condition)]

    def create_model_version(self, _name: str, _source: str, *, run_id: str, tags: dict[str, str], **_: Any) -> None:
        self._made += 1
        self.versions[self._made] = SimpleNamespace(
            version=str(self._made), run_id=run_id, tags=tags, creation_timestamp=time.time() * 1000
        )

    def delete_model_version(self, _name: str, version: str) -> None:
        if int(version) not in self.versions:
            raise MlflowException(f"no version {version}")
        del self.versions[int(version)]
        self.aliases = {alias: named for alias, named in self.aliases.items() if named != int(version)}

    def set_registered_model_alias(self, _name: str, alias: str, version: str) -> None:
        if int(version) not in self.versions:
            raise MlflowException(f"no version {version}")
        self.aliases[alias] = int(version)

    def delete_registered_model_alias(self, _name: str, alias: str) -> None:
        self.aliases.pop(alias, None)

    def set_registered_model_tag(self, _name: str, key: str, value: str) -> None:
        self.tags[key] = value

    def delete_registered_model_tag(self, _name: str, key: str) -> None:
        self.tags.pop(key, None)

    def log_text(self, run_id: str, _text: str, name: str) -> None:
        self.uploads[run_id, name] += 1

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].info.status = status

    def log_batch(self, run_id: str, *, tags: list[Any], **_: Any) -> None:
        self.runs[run_id].data.tags |= {tag.key: tag.value for tag in tags}


def _meets(version: Any, condition: str) -> bool:
    wanted = condition.partition("run_id = ")[2].strip("'")
    return not wanted or version.run_id == wanted
