"""Removes what MLflow keeps of a model name and nothing needs any more: old versions, and old runs with their files.

What a run or a command may still need is protected, however old it is:

- the champion, the previous champion, every version with an alias, and the versions of the pin or the retirement;
- versions that the decision log does not name, and those that served within their age;
- the runs and files of every version that stays, of candidates in shadow or waiting for approval, and of candidates
  that no entry of the log names;
- the newest decision's run, from which its schedule is written again; runs that have not ended, and open intents.

Versions go first, then the runs that they held. Of a run its files go first and the run last, so a process that is
killed leaves a run that is found again. MLflow only marks runs and models as deleted; `mlflow gc` removes their rows.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from fraud_detection.registry.aliases import Service, registered_model, service
from fraud_detection.registry.artifacts import artifact_bytes, delete_artifacts
from fraud_detection.registry.candidates import DISCARDED, KEY_TAG, STATE_TAG, key_text, logged_models
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import Entry, Intervention, LogEntry, entry_time
from fraud_detection.registry.log_chain import verify_chain
from fraud_detection.registry.mlflow_runs import search_runs
from fraud_detection.registry.registration import INTENT_TAG, OPEN
from fraud_detection.registry.restoration import exclusive, logged_service
from fraud_detection.registry.reviews import open_reviews, opened_candidates, settled_candidates
from fraud_detection.schema import Decision, Opening

_RUNS_A_LEASE = 20
"""Runs that are removed under one lease: another process waits for seconds, not for all of them."""


@dataclass(frozen=True)
class OldRun:
    """An MLflow run that can be removed."""

    run_id: str
    bytes: int  # of its files and of the models that it logged


@dataclass(frozen=True)
class Removable:
    """What nothing needs any more."""

    versions: tuple[int, ...]  # ascending
    runs: tuple[OldRun, ...]  # oldest first


@dataclass(frozen=True)
class LoggedRun:
    """What an MLflow run is, as far as its removal depends on it."""

    run_id: str
    ended_at: datetime
    is_open: bool  # it has not ended, or its intent is open
    candidate: str | None = None  # whose model it holds, by `candidates.key_text`
    discarded: bool = False  # the files of the candidate are deleted


@dataclass(frozen=True)
class Needed:
    """What keeps runs of any age."""

    runs: frozenset[str]  # of the versions that stay, and of the newest decision
    candidates: frozenset[str]  # in shadow, or waiting for approval
    settled: frozenset[str]  # candidates that are neither


def find_removable(
    context: Context, versions_before: datetime, runs_before: datetime, most: int | None = None
) -> Removable:
    """What can be removed of MLflow; see `Registry.find_removable`."""
    entries = verify_chain(context).entries
    versions = _removable_versions(context, entries, versions_before)
    kept = _kept_versions(context, versions)
    needed = _needed(entries, kept)
    old = [run for run in _runs(context, runs_before) if is_removable(_logged_run(run), needed, runs_before)]
    old.sort(key=lambda run: (run.info.start_time, run.info.run_id))
    found = islice((run for run in old if not _holds(context, run, kept)), most)
    return Removable(versions, tuple(_measured(context, run) for run in found))


def removable_versions(
    now: Service, aliased: Collection[int], entries: Iterable[LogEntry], before: datetime
) -> tuple[int, ...]:
    """The versions that served last before a time and that nothing needs, ascending.

    Args:
        now: what is in service.
        aliased: versions that have any alias.
        entries: the whole log, in the order in which they came into force.
        before: the time.
    """
    history = [entry for entry in entries if not isinstance(entry, Opening)]
    logged = logged_service(history)
    changes = (change for change in (now.pin, now.retirement, logged.change) if change is not None)
    protected = {
        *aliased,
        *(now.champion, now.previous_champion, logged.champion, logged.previous_champion),
        *(getattr(change, name, None) for change in changes for name in ("from_version", "to_version", "version")),
    }
    served = _last_named(history)
    return tuple(one for one in now.versions if one not in protected and one in served and served[one] < before)


def is_removable(run: LoggedRun, needed: Needed, before: datetime) -> bool:
    """Whether a run ended before a time, and nothing needs it."""
    if run.is_open or run.ended_at >= before or run.run_id in needed.runs:
        return False
    if run.candidate is None:
        return True
    return run.candidate not in needed.candidates and (run.discarded or run.candidate in needed.settled)


def needed_candidates(entries: Sequence[LogEntry]) -> frozenset[str]:
    """The candidates that can still be looked at or approved."""
    in_shadow = opened_candidates(entries).keys() - settled_candidates(entries).keys()
    return frozenset(map(key_text, in_shadow | open_reviews(entries).keys()))


def remove_versions(context: Context, before: datetime) -> tuple[int, ...]:
    """Delete the versions that can be removed; they are found under the lease, so that no rollback comes between."""
    with exclusive(context, "removing old versions") as lease:
        found = _removable_versions(context, verify_chain(context).entries, before)
        for version in found:
            lease.require_held()
            context.connection.client.delete_model_version(context.name, str(version))
        return found


def remove_runs(context: Context, runs: Iterable[OldRun]) -> Iterator[OldRun]:
    """Delete runs that `find_removable` found, with their files, and yield each when it is gone.

    None of them can be needed again: a candidate that is settled stays so, and a version that is deleted does not come
    back. What another program has registered from one meanwhile is kept.
    """
    wanted = list(runs)
    for begin in range(0, len(wanted), _RUNS_A_LEASE):
        with exclusive(context, "removing old runs") as lease:
            kept = _kept_versions(context, ())
            for old in wanted[begin : begin + _RUNS_A_LEASE]:
                run = context.connection.client.get_run(old.run_id)
                if run.info.lifecycle_stage != "active" or _holds(context, run, kept):
                    continue
                for step in _deletions(context, run):
                    lease.require_held()
                    step()
                yield old


def _deletions(context: Context, run: Any) -> Iterator[Callable[[], None]]:  # noqa: ANN401  (MLflow ships no types)
    """The steps that delete a run, its row last."""
    client, connection = context.connection.client, context.connection
    for logged in logged_models(context, run.info.run_id):
        yield partial(delete_artifacts, connection, logged.artifact_location)
        yield partial(client.delete_logged_model, logged.model_id)
    yield partial(delete_artifacts, connection, run.info.artifact_uri)
    yield partial(client.delete_run, run.info.run_id)


def _removable_versions(context: Context, entries: Iterable[LogEntry], before: datetime) -> tuple[int, ...]:
    model = registered_model(context.connection, context.name)
    if model is None:
        return ()
    now = service(context.connection, context.name)
    now.require_readable_tag(context.commands)
    return removable_versions(now, {int(version) for version in model.aliases.values()}, entries, before)


def _last_named(history: Iterable[Entry]) -> dict[int, datetime]:
    """When the log last says of each version that it served, or came or left."""
    found: dict[int, datetime] = {}
    for entry in history:
        named = (
            (entry.from_version, entry.to_version)
            if isinstance(entry, Intervention)
            else (entry.version, entry.champion_version)
        )
        for version in named:
            if version is not None:
                found[version] = max(entry_time(entry), found.get(version, entry_time(entry)))
    return found


def _needed(entries: Sequence[LogEntry], kept: Iterable[Any]) -> Needed:
    decided = [entry for entry in entries if isinstance(entry, Decision)]
    newest = max(decided, key=lambda entry: entry.as_of, default=None)
    runs = {str(version.run_id) for version in kept} | ({str(newest.run_id)} if newest is not None else set())
    settled = frozenset(map(key_text, settled_candidates(entries)))
    return Needed(frozenset(runs), needed_candidates(entries), settled)


def _kept_versions(context: Context, removed: Collection[int]) -> list[Any]:
    """Every version that this account sees, of any name, except those of this one that are to be removed."""
    found: list[Any] = []
    token = None
    while True:
        page = context.connection.client.search_model_versions(page_token=token)
        found += page
        token = page.token
        if not token:
            return [one for one in found if not (one.name == context.name and int(one.version) in removed)]


def _holds(context: Context, run: Any, kept: Iterable[Any]) -> bool:  # noqa: ANN401
    """Whether a version was registered from the run or from a model of it; its source has the model's id."""
    run_id = run.info.run_id
    models = [logged.model_id for logged in logged_models(context, run_id)]
    return any(
        version.run_id == run_id or any(model_id in str(version.source) for model_id in models) for version in kept
    )


def _runs(context: Context, before: datetime) -> list[Any]:
    """The runs that may have ended before a time: those that started before it, so that newer ones are not read."""
    milliseconds = int(before.timestamp() * 1000)
    return search_runs(context, f"attributes.status != 'RUNNING' and attributes.start_time < {milliseconds}")


def _logged_run(run: Any) -> LoggedRun:  # noqa: ANN401
    tags, info = run.data.tags, run.info
    return LoggedRun(
        run_id=info.run_id,
        ended_at=datetime.fromtimestamp((info.end_time or info.start_time) / 1000, UTC),
        is_open=info.status == "RUNNING" or tags.get(INTENT_TAG) == OPEN,
        candidate=tags.get(KEY_TAG),
        discarded=tags.get(STATE_TAG) in DISCARDED,
    )


def _measured(context: Context, run: Any) -> OldRun:  # noqa: ANN401
    roots = [run.info.artifact_uri, *(one.artifact_location for one in logged_models(context, run.info.run_id))]
    return OldRun(run.info.run_id, sum(artifact_bytes(context.connection, root) for root in roots))
