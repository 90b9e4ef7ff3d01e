"""Which transactions are new since the last batch: those whose ids have no score.

A time mark would not tell, since transactions come late. So each day of the input is compared with what the last batch
saw of it, and only the ids of days that differ are read. A day that has lost scored transactions is read each time:
they may come back, also on another day, and are not scored again. Days before the first one of the input are read once
more when they vanish, and then no longer: where old files are removed, each batch would read all that was ever
scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.scores.manifest import ScoredDay, ScoreManifest

_DAY = timedelta(days=1)
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Increment:
    """The transactions of some days, compared with the scored ones of the same days."""

    new: pa.Table
    """Rows of `present` without a score."""
    gone: Mapping[date, int]
    """Scored transactions of each of the days that it no longer has."""


def changed_days(contents: Mapping[date, str], scored: ScoreManifest | None, first: date) -> tuple[date, ...]:
    """The days whose ids have to be compared, rising.

    Args:
        contents: a fingerprint of each day that has transactions in the input.
        scored: the newest manifest; None before the first batch.
        first: the first day of the whole input.
    """
    if scored is None:
        return tuple(sorted(contents))
    known = {day.day: day for day in scored.days}
    lost = {day.day for day in scored.days if day.gone and day.day >= first}
    vanished = {day.day for day in scored.days if day.content and day.day not in contents}
    other = {day for day, content in contents.items() if day not in known or known[day].content != content}
    return tuple(sorted(lost | vanished | other))


def compare(present: pa.Table, scored: pa.Table, days: Sequence[date]) -> Increment:
    """What is new on some days, and what they have lost.

    Args:
        present: transaction_id, as text, each once, and transaction_time (UTC) of the transactions of these days.
        scored: the same of those that have a score.
        days: see `changed_days`.
    """
    is_scored = pc.is_in(present["transaction_id"], scored["transaction_id"])
    left = pc.is_in(_keys(scored), _keys(present))
    lost = pc.value_counts(days_of(scored.filter(pc.invert(left))["transaction_time"]))
    counts = {_EPOCH + timedelta(days=found["values"]): found["counts"] for found in lost.to_pylist()}
    return Increment(present.filter(pc.invert(is_scored)), {day: counts.get(day, 0) for day in days})


def days_of(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Days since 1970, UTC."""
    return times.cast(pa.timestamp("us", "UTC")).cast(pa.date32()).cast(pa.int32())


def day_of(number: int) -> date:
    """The day so many days after 1970-01-01."""
    return _EPOCH + timedelta(days=number)


def spans(days: Sequence[date], gap: int) -> list[tuple[datetime, datetime]]:
    """Half-open spans that cover the days; days with fewer than `gap` days between them share one.

    Features of a span read weeks before it, so that near days cost less together.
    """
    found: list[tuple[datetime, datetime]] = []
    for day in sorted(days):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if found and start - found[-1][1] < gap * _DAY:
            found[-1] = (found[-1][0], start + _DAY)
        else:
            found.append((start, start + _DAY))
    return found


def next_days(
    scored: ScoreManifest | None, contents: Mapping[date, str], increment: Increment, added: Mapping[date, ScoredDay]
) -> tuple[ScoredDay, ...]:
    """The days of the next manifest.

    Args:
        scored: the newest manifest.
        contents: see `changed_days`.
        increment: of the changed days.
        added: what the batch has scored of each day, with its file.
    """
    days = {} if scored is None else {day.day: day for day in scored.days}
    for day, gone in increment.gone.items():
        old, new = days.get(day), added.get(day)
        parts = [part for part in (old, new) if part is not None]
        days[day] = ScoredDay(
            day=day,
            rows=sum(part.rows for part in parts),
            alerts=sum(part.alerts for part in parts),
            late=sum(part.late for part in parts),
            gone=gone,
            content=contents.get(day, ""),
            files=tuple(file for part in parts for file in part.files),
        )
    return tuple(days[day] for day in sorted(days))


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    """The id with its day: a transaction that has moved to another day has left its own."""
    return pc.binary_join_element_wise(days_of(rows["transaction_time"]).cast(pa.string()), rows["transaction_id"], "/")
