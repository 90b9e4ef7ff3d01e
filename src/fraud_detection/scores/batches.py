"""Batches of scores, written exactly once, and the lists of alerts that follow from them.

Layout below `scores/<model>/`:

    days/2026-03-01/00000012-1f3a9c20.parquet   the transactions of a day that batch 12 has scored
    manifest/00000012.json.gz                   all that has been scored since the first batch; written once, and last
    alerts/2026-03-01.csv                       the alerts of a day, from all batches; written again when it gets more

A batch is what its manifest says. A process that is killed before leaves files that no manifest names, and the next one
scores their transactions. One that is killed after leaves lists that lack its alerts, and the next one writes them.
Of two processes that score the same transactions, only one publishes the manifest with the next number. Before scores
are removed for their age, a manifest without them is published.
"""

import io
import re
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.outputs import alerts_file, score_manifests_folder, scores_file, scores_folder
from fraud_detection.schema import Unbounded
from fraud_detection.scores.increments import Increment, changed_days, compare, day_of, days_of, next_days
from fraud_detection.scores.manifest import ScoredDay, ScoreManifest
from fraud_detection.storage import Manifests, Storage, StoredObject
from fraud_detection.transactions.spreadsheets import harmless_texts

_KEYS = ("transaction_id", "transaction_time")
_SEPARATOR = " "
_DAY_IN_NAME = re.compile(r"(?:days|alerts)/(\d{4}-\d{2}-\d{2})[/.]")


@dataclass(frozen=True)
class Batch:
    """The new transactions with their scores, and what scored them."""

    rows: pa.Table
    """transaction_id (text), transaction_time (UTC), amount, [customer_id (text)], probability, alert (null without a
    threshold), reasons (of alerts), late."""
    increment: Increment
    contents: dict[date, str]
    """Fingerprints of the days of the input."""
    as_of: datetime
    since: datetime
    scored_at: datetime
    version: int
    sha256: str | None
    threshold: Unbounded | None
    code_revision: str | None


class ScoreStore:
    """The scores of one model in an output folder."""

    def __init__(self, storage: Storage, model_name: str) -> None:
        self._storage, self._model_name = storage, model_name
        self._folder = scores_folder(model_name)
        self._manifests = Manifests(storage, score_manifests_folder(model_name))

    def newest(self) -> ScoreManifest | None:
        """What has been scored; None before the first batch.

        Raises:
            FraudDetectionError: the newest manifest is damaged.
        """
        found = self._manifests.newest()
        if found is None:
            return None
        number, content = found
        try:
            return ScoreManifest.parse(content)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            name = self._storage.url(self._manifests.name(number))
            cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it cannot be decompressed"
            raise FraudDetectionError(
                f"{name} is not a readable manifest of scores: {cause}; expected what"
                " fraud-detection score wrote; next: restore it from a copy, or move away the whole folder"
                f" {self._storage.url(self._folder)}: then the next batch is a first one"
            ) from error

    def url(self, name: str) -> str:
        """The path or the URL of a file that a manifest names."""
        return self._storage.url(f"{self._folder}{name}")

    def rows(self, scored: ScoreManifest, day: date, columns: list[str] | None = None) -> pa.Table | None:
        """The scored transactions of a day, as of a manifest; None where there are none.

        Raises:
            FraudDetectionError: a file is lost or damaged.
        """
        files = next((known.files for known in scored.days if known.day == day), ())
        parts = [self._read(name, columns) for name in files]
        return pa.concat_tables(parts, promote_options="default") if parts else None

    def scored_keys(self, scored: ScoreManifest | None, days: tuple[date, ...]) -> pa.Table:
        """transaction_id, as text, and transaction_time of all that has a score on some days."""
        parts = [] if scored is None else [self.rows(scored, day, list(_KEYS)) for day in days]
        empty = pa.table({"transaction_id": pa.array([], pa.string()), "transaction_time": pa.array([], _TIME)})
        return pa.concat_tables([empty, *(as_keys(part) for part in parts if part is not None)])

    def increment(
        self,
        scored: ScoreManifest | None,
        contents: Mapping[date, str],
        first: date,
        read: Callable[[tuple[date, ...]], pa.Table],
    ) -> Increment:
        """What is new in the input.

        Args:
            scored: the newest manifest; None before the first batch.
            contents: see `increments.changed_days`, like `first`.
            first: the first day of the whole input.
            read: the input's transactions of some days, see `increments.compare`; not called without any.
        """
        days = changed_days(contents, scored, first)
        known = self.scored_keys(scored, days)
        return compare(read(days) if days else known.slice(0, 0), known, days)

    def publish(self, previous: ScoreManifest | None, batch: Batch) -> ScoreManifest:
        """Write the files of a batch, then its manifest. `write_alerts` comes next.

        Args:
            previous: what had been scored when the batch began.
            batch: its rows are of the days of its increment.

        Raises:
            ServiceUnavailableError: another process has published a batch meanwhile; this one has no effect.
            FraudDetectionError: the storage cannot be written.
        """
        number = 1 if previous is None else previous.number + 1
        added = self._write_days(batch.rows, batch.scored_at, batch.version, number)
        manifest = ScoreManifest(
            number=number,
            as_of=batch.as_of,
            since=batch.since,
            scored_at=batch.scored_at,
            version=batch.version,
            sha256=batch.sha256,
            threshold=batch.threshold,
            code_revision=batch.code_revision,
            rows=batch.rows.num_rows,
            alerts=sum(day.alerts for day in added.values()),
            late=sum(day.late for day in added.values()),
            days=next_days(previous, batch.contents, batch.increment, added),
        )
        if not self._manifests.publish(number, manifest.content()):
            raise ServiceUnavailableError(
                f"another process has published batch {number} of {self._storage.url(self._folder)} meanwhile; this one"
                " has no effect; next: run the same command again, which scores what is left"
            )
        return manifest

    def write_alerts(self, scored: ScoreManifest) -> dict[date, str]:
        """Write the list of alerts of each day that the newest batch has scored; repeated, it writes the same.

        Returns:
            The paths or URLs of the lists. None is written of a day that no version with a threshold has scored.
        """
        lists = {}
        for day in scored.new_files:
            rows = self.rows(scored, day)
            if rows is not None and rows["alert"].null_count < rows.num_rows:
                lists[day] = self._storage.write_atomic(alerts_file(self._model_name, day), alert_list(rows))
        return lists

    def older(self, before: datetime) -> tuple[StoredObject, ...]:
        """The files of days that were over before a time, and manifests that were written before it, the oldest first.

        Those of the day up to which the newest batch has scored stay, and those of later days; so does its manifest.
        """
        scored = self.newest()
        if scored is None:
            return ()
        first, newest = _first_kept(scored, before), self._manifests.name(scored.number)

        def is_old(one: StoredObject) -> bool:
            if one.name.startswith(self._manifests.folder):
                return one.name != newest and one.written_at < before
            day = _DAY_IN_NAME.match(one.name, len(self._folder))
            return day is not None and date.fromisoformat(day[1]) < first

        found = (one for one in self._storage.objects(self._folder) if one.size and is_old(one))
        return tuple(sorted(found, key=lambda one: (one.written_at, one.name)))

    def forget_before(self, before: datetime) -> None:
        """Publish that days which were over before a time have no scores any more, and are not scored again.

        Their files may be removed then. A transaction of such a day that comes late has no score.

        Raises:
            ServiceUnavailableError: a batch has been published meanwhile; nothing has changed.
        """
        scored = self.newest()
        if scored is None or scored.since.date() >= (first := _first_kept(scored, before)):
            return
        self.write_alerts(scored)  # which a killed batch may have left undone, and the next one would not know
        changes = {
            "number": scored.number + 1,
            "since": datetime(first.year, first.month, first.day, tzinfo=UTC),
            "rows": 0,
            "alerts": 0,
            "late": 0,
            "days": tuple(day for day in scored.days if day.day >= first),
        }
        manifest = scored.model_copy(update=changes)
        if not self._manifests.publish(manifest.number, manifest.content()):
            raise ServiceUnavailableError(
                f"a batch of {self._storage.url(self._folder)} was published meanwhile, so no scores were removed;"
                " next: run the same command again"
            )

    def _write_days(self, rows: pa.Table, scored_at: datetime, version: int, number: int) -> dict[date, ScoredDay]:
        rows = rows.append_column("model_version", pa.array([version] * rows.num_rows, pa.int32()))
        rows = rows.append_column("scored_at", pa.array([scored_at] * rows.num_rows, _TIME))
        rows = rows.append_column("batch", pa.array([number] * rows.num_rows, pa.int32()))
        token, days = uuid.uuid4().hex[:8], days_of(rows["transaction_time"])
        added = {}
        for value in sorted(pc.unique(days).to_pylist()):
            day, own = day_of(value), rows.filter(pc.equal(days, value))
            own = own.sort_by([("transaction_time", "ascending"), ("transaction_id", "ascending")])
            name = scores_file(self._model_name, day, number, token)
            self._storage.write_atomic(name, _parquet(own))
            added[day] = ScoredDay(
                day=day,
                rows=own.num_rows,
                alerts=pc.sum(own["alert"]).as_py() or 0,
                late=pc.sum(own["late"]).as_py() or 0,
                gone=0,
                content="",
                files=(name.removeprefix(self._folder),),
            )
        return added

    def _read(self, name: str, columns: list[str] | None) -> pa.Table:
        content, url = self._storage.read(f"{self._folder}{name}"), self.url(name)
        if content is None:
            raise FraudDetectionError(
                f"{url} is missing; expected the scores that a manifest names, without which transactions would be"
                " scored twice; next: restore it from a copy or from the bucket's old versions"
            )
        try:
            return pq.read_table(io.BytesIO(content), columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise FraudDetectionError(
                f"{url} is damaged; expected the Parquet file that fraud-detection score wrote; next: restore it from a"
                " copy or from the bucket's old versions"
            ) from error


def _first_kept(scored: ScoreManifest, before: datetime) -> date:
    """The first day that is not over before a time; no day that still waits for its scores is earlier."""
    return min(before.astimezone(UTC).date(), scored.as_of.astimezone(UTC).date())


def as_keys(rows: pa.Table) -> pa.Table:
    """transaction_id, as text whatever its type, and transaction_time (UTC) of some rows."""
    return pa.table(
        {
            "transaction_id": rows["transaction_id"].cast(pa.string()),
            "transaction_time": rows["transaction_time"].cast(_TIME),
        }
    )


def alert_list(rows: pa.Table) -> bytes:
    """The alerts among the scored transactions of a day as CSV, the highest probability first."""
    alerts = rows.filter(pc.fill_null(rows["alert"], False)).drop_columns(["alert"])
    alerts = alerts.sort_by([("probability", "descending"), ("transaction_id", "ascending")])
    columns = {name: _as_text(alerts[name]) for name in alerts.column_names}
    text = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns), text)
    return text.getvalue()


_TIME = pa.timestamp("us", "UTC")


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    """Values as a spreadsheet shows them and does not run them."""
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column.combine_chunks(), "%Y-%m-%dT%H:%M:%SZ", locale="C")
    if pa.types.is_list(column.type):
        return pc.binary_join(column.combine_chunks(), _SEPARATOR)
    if pa.types.is_string(column.type):
        return harmless_texts(column.combine_chunks())
    return column.combine_chunks()


def _parquet(rows: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(rows, content, compression="zstd")
    return content.getvalue()
