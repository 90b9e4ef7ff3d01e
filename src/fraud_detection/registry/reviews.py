"""What has become of each candidate, and which winners wait for approval, according to the decision log.

In approval mode a candidate that has passed a look waits until a person approves or rejects it. Winners wait side by
side: each for its own time, and all of them until the champion changes, since they were compared with no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fraud_detection.promotion import shown_look
from fraud_detection.registry.decision_log import (
    PROMOTIONS,
    Action,
    Intervention,
    LogEntry,
    changes_service,
    entry_time,
)
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, Opening, Outcome


@dataclass(frozen=True)
class Review:
    """A winner that waits."""

    candidate: CandidateKey
    decision: Decision
    """Of the run whose look it passed; of several the newest."""

    def expires_at(self, days: int) -> datetime:
        """When it waits no longer, for a person."""
        return entry_time(self.decision) + timedelta(days=days)

    def is_kept(self, as_of: datetime, days: int) -> bool:
        """Whether it waits, for a run at `as_of`."""
        return self.decision.as_of <= as_of <= self.decision.as_of + timedelta(days=days)


def open_reviews(entries: Iterable[LogEntry]) -> dict[CandidateKey, Review]:
    """The winners that neither a person nor a change of the champion has settled, expired ones, too.

    Args:
        entries: of the log, in the order in which they came into force.
    """
    found: dict[CandidateKey, Review] = {}
    for entry in entries:
        if isinstance(entry, Opening):
            continue
        if changes_service(entry):
            found = {}
        elif isinstance(entry, Intervention):
            if entry.action is Action.REJECT and entry.candidate is not None:
                found.pop(entry.candidate, None)
        elif entry.outcome is Outcome.NEEDS_REVIEW:
            found |= {look.candidate: Review(look.candidate, entry) for look in entry.looks if look.passed}
    return found


def waiting_candidates(entries: Iterable[LogEntry], as_of: datetime, days: int) -> frozenset[CandidateKey]:
    """The candidates that wait for approval at an as-of time: their files are kept."""
    return frozenset(key for key, review in open_reviews(entries).items() if review.is_kept(as_of, days))


@dataclass(frozen=True)
class Fate:
    """Why a candidate is in shadow no longer."""

    text: str
    version: int | None = None
    """That it has become."""


def opened_candidates(entries: Iterable[LogEntry]) -> dict[CandidateKey, CandidateRecord]:
    """Every candidate of the log."""
    return {record.key: record for entry in entries if isinstance(entry, Opening) for record in entry.candidates}


def settled_candidates(entries: Iterable[LogEntry]) -> dict[CandidateKey, Fate]:
    """The candidates that are in shadow no longer: retired, rejected or promoted."""
    found: dict[CandidateKey, Fate] = {}
    for entry in entries:
        if isinstance(entry, Intervention):
            found |= _settled_by_person(entry)
        elif isinstance(entry, Decision):
            found = _retired(entry) | found | _promoted(entry)
    return found


def _settled_by_person(entry: Intervention) -> dict[CandidateKey, Fate]:
    if entry.candidate is None:
        return {}
    if entry.action in PROMOTIONS:
        return {entry.candidate: Fate(f"is version {entry.to_version} already", entry.to_version)}
    return {entry.candidate: Fate(f"was rejected by {entry.who} on {entry.at:%Y-%m-%d %H:%M} UTC ({entry.reason})")}


def _retired(decision: Decision) -> dict[CandidateKey, Fate]:
    at = f"{decision.as_of:%Y-%m-%d %H:%M}"
    return {
        one.candidate: Fate(f"was retired at {at} ({one.reason.value.replace('_', ' ')})")
        for one in decision.retired_candidates
    }


def _promoted(decision: Decision) -> dict[CandidateKey, Fate]:
    winner = shown_look(decision.looks) if decision.outcome is Outcome.PROMOTED else None
    if winner is None:
        return {}
    refit = decision.refit if decision.refit is not None and decision.refit.serves else None
    served = winner.candidate if refit is None else refit.refit.key  # beside its refit the winner stays in shadow
    return {served: Fate(f"is version {decision.version} already", decision.version)}
