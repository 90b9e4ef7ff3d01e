"""The decision log as the promotion rule reads it: candidates, looks, their results and retirements."""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from fraud_detection.promotion import sequential
from fraud_detection.registry.decision_log import Action, Intervention, LogEntry
from fraud_detection.registry.log_chain import RECENT
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, LookKey, LookRecord, Opening
from fraud_detection.settings import Settings


def recent_since(as_of: datetime, settings: Settings) -> datetime:
    """From when on a run at `as_of` reads the log: whatever can still be charged, looked at or compared."""
    life = timedelta(days=settings.comparison.shadow_days + settings.windows.maturity_days) + sequential.BACKFILL
    return as_of - max(RECENT, life)


def sequential_entries(entries: Iterable[LogEntry], as_of: datetime) -> tuple[sequential.LogEntry, ...]:
    """What the entries up to `as_of` say to the promotion rule.

    The test of a first champion is not among the looks: it shares its risk with no other. What a person has rejected
    counts at once, as a pin does: a run may be for an as-of time that is past.
    """
    log = tuple(entries)
    rejected = (one.candidate for one in log if isinstance(one, Intervention) and one.action is Action.REJECT)
    return (
        *(found for entry in _until(log, as_of) for found in _sequential(entry)),
        *(sequential.Rejection(key, as_of) for key in rejected if key is not None),
    )


def candidate_records(entries: Iterable[LogEntry], as_of: datetime) -> dict[CandidateKey, CandidateRecord]:
    """Every candidate that was opened up to `as_of`, also those that were retired."""
    openings = (entry for entry in _until(entries, as_of) if isinstance(entry, Opening))
    return {record.key: record for opening in openings for record in opening.candidates}


def newest_as_of(entries: Iterable[LogEntry]) -> datetime | None:
    """The latest as-of time that was opened or decided."""
    times = [entry.as_of for entry in entries if isinstance(entry, Decision | Opening)]
    return max(times, default=None)


def _until(entries: Iterable[LogEntry], as_of: datetime) -> Iterator[Decision | Opening]:
    return (entry for entry in entries if isinstance(entry, Decision | Opening) and entry.as_of <= as_of)


def _sequential(entry: Decision | Opening) -> Iterator[sequential.LogEntry]:
    if isinstance(entry, Opening):
        for record in entry.candidates:
            yield sequential.Candidate(record.key, record.training.end, record.growth, record.opened_at)
        yield from (look for key in entry.looks if (look := _look(key, entry.as_of)) is not None)
        return
    for taken in entry.looks:
        look = _look(taken.key, entry.as_of)
        if look is not None:
            yield look
            yield sequential.ClosedLook(look, _result(taken), taken.passed)
    for retired in entry.retired_candidates:
        yield sequential.Retirement(retired.candidate, entry.as_of, retired.reason)


def _look(key: LookKey, as_of: datetime) -> sequential.Look | None:
    if key.champion_version is None:
        return None
    return sequential.Look(as_of, key.candidate, key.champion_version, key.number)


def _result(taken: LookRecord) -> sequential.LookResult:
    return sequential.LookResult(
        0.0 if taken.difference is None else taken.difference.value,
        -math.inf if taken.root is None else taken.root,
        taken.holdout.frauds,
        taken.fraud_cards,
    )
