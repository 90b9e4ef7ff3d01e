"""An input without files and a champion without trees, to score with: what it holds decides each score."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from fraud_detection.scores import Batch, ScoreManifest, ScoreStore
from fraud_detection.storage import Storage, StoredObject

NAME = "fraud_detection"
START = datetime(2026, 3, 1, tzinfo=UTC)
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Row:
    """A transaction of the input."""

    hour: int  # since START
    amount: float = 1.0

    @property
    def time(self) -> datetime:
        return START + timedelta(hours=self.hour)


Rows = Mapping[str, Row]


class MemoryStorage(Storage):
    """A storage that does not wait for a disk."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        return name

    def write_atomic(self, name: str, content: bytes) -> str:
        self._objects[name] = content
        return name

    def write_once(self, name: str, content: bytes) -> bool:
        return self._objects.setdefault(name, content) is content

    def read(self, name: str) -> bytes | None:
        return self._objects.get(name)

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._objects if name.startswith(prefix))

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return [StoredObject(name, len(self._objects[name]), START) for name in self.names(prefix)]

    def discard(self, name: str) -> None:
        raise AssertionError("no score is discarded")


def score_input(
    storage: Storage, rows: Rows, as_of: datetime, version: int = 1, threshold: float | None = 0.5
) -> ScoreManifest | None:
    """Score what is new in an input, as the command does; None where nothing has changed."""
    store = ScoreStore(storage, NAME)
    previous = store.newest()
    if previous is not None:
        store.write_alerts(previous)
    since = START if previous is None else previous.since
    seen = {key: row for key, row in rows.items() if since <= row.time < as_of}
    contents = _contents(seen)
    first = min((row.time.date() for row in seen.values()), default=START.date())
    increment = store.increment(previous, contents, first, lambda days: _keys(seen, days))
    if previous is not None and not increment.gone and previous.as_of == as_of:
        return None
    chosen: list[str] = increment.new["transaction_id"].to_pylist()
    manifest = store.publish(
        previous,
        Batch(
            rows=_scored(seen, chosen, threshold, previous),
            increment=increment,
            contents=contents,
            as_of=as_of,
            since=since,
            scored_at=as_of + timedelta(minutes=15),
            version=version,
            sha256="0" * 64,
            threshold=threshold,
            code_revision=None,
        ),
    )
    store.write_alerts(manifest)
    return manifest


def stored_scores(storage: Storage) -> dict[str, list[dict[str, object]]]:
    """All that the newest manifest names, by id."""
    store = ScoreStore(storage, NAME)
    manifest = store.newest()
    found: dict[str, list[dict[str, object]]] = {}
    if manifest is None:
        return found
    for day in manifest.days:
        rows = store.rows(manifest, day.day)
        for row in [] if rows is None else rows.to_pylist():
            found.setdefault(row["transaction_id"], []).append(row)
    return found


def _contents(rows: Rows) -> dict[date, str]:
    by_day: dict[date, list[str]] = {}
    for key, row in sorted(rows.items()):
        by_day.setdefault(row.time.date(), []).append(f"{key} {row}")
    return {day: hashlib.sha256("\n".join(said).encode()).hexdigest() for day, said in by_day.items()}


def _keys(rows: Rows, days: tuple[date, ...]) -> pa.Table:
    chosen = {key: row for key, row in rows.items() if row.time.date() in days}
    times = pa.array([row.time for row in chosen.values()], _TIME)
    return pa.table({"transaction_id": pa.array(list(chosen), pa.string()), "transaction_time": times})


def _scored(rows: Rows, ids: list[str], threshold: float | None, previous: ScoreManifest | None) -> pa.Table:
    probabilities = [_probability(key, rows[key]) for key in ids]
    alerts = [None if threshold is None else value >= threshold for value in probabilities]
    times = [rows[key].time for key in ids]
    return pa.table(
        {
            "transaction_id": pa.array(ids, pa.string()),
            "transaction_time": pa.array(times, _TIME),
            "amount": pa.array([rows[key].amount for key in ids], pa.float64()),
            "probability": pa.array(probabilities, pa.float32()),
            "alert": pa.array(alerts, pa.bool_()),
            "reasons": pa.array([["amount"] if alert else None for alert in alerts], pa.list_(pa.string())),
            "late": pa.array([previous is not None and time < previous.as_of for time in times], pa.bool_()),
        }
    )


def _probability(key: str, row: Row) -> float:
    return hashlib.sha256(f"{key} {row}".encode()).digest()[0] / 256
