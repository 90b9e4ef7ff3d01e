"""The profile of the input: counts by hour, what was rejected and why, and warnings."""

import dataclasses
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that PySpark users know

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.labels import EARLIER_HISTORY, HISTORY
from fraud_detection.time_windows import RunWindows, whole_hour
from fraud_detection.transactions.columns import FLAGS, OF_LABEL, RETIRABLE, Field, Kind
from fraud_detection.transactions.label_table import known_by, label_text
from fraud_detection.transactions.rules import EXPECTED, REFUND, SEPARATOR
from fraud_detection.transactions.view import View
from fraud_detection.window_spans import span_setting

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_MICROS = 3_600_000_000
_DAY_MICROS = 24 * _HOUR_MICROS
_DELAY_QUANTILE = 0.9
_MOST_BAD = 0.5
_LOWEST = -1.7976931348623157e308


@dataclass(frozen=True)
class LabelTableProfile:
    """How the rows of a label table were used."""

    rows: int
    without_id: int  # empty ids and broken lines
    without_transaction: int  # ids that no transaction has


@dataclass(frozen=True, eq=False)
class HourlyDelays:
    """Known frauds by the hour of their transaction and the delay of their label; parallel arrays, nothing is zero."""

    hours: NDArray[np.datetime64]  # UTC
    delay_hours: NDArray[np.int64]  # rounded up
    frauds: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FlaggedCounts:
    """Good rows by hour, parallel to the other counts of a profile; zero where a flag is not mapped."""

    blocked: NDArray[np.int64]
    blocked_unlabelled: NDArray[np.int64]
    """Whose label will never come: they are used for nothing."""
    control: NDArray[np.int64]
    control_frauds: NDArray[np.int64]
    control_unlabelled: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts are of what the view shows, and of good rows, except `rows`, `rejected`, `rejected_rows` and `future`.
    Refunds that are left out count as `refunds` alone.

    Hours are UTC and without gaps; arrays are parallel.
    """

    rows: int
    rejected: dict[str, int]  # by reason; a row with several counts in each
    rejected_rows: int  # each row once
    faults: dict[str, str]  # for each reason the columns at fault, with masked shapes of their values
    span: tuple[datetime, datetime] | None  # oldest and newest transaction, None where no row is good
    latest: int  # of all times, also of bad rows and of labels, in microseconds since 1970
    hours: NDArray[np.datetime64]
    transactions_by_hour: NDArray[np.int64]
    frauds_by_hour: NDArray[np.int64]
    unlabelled_by_hour: NDArray[np.int64]
    flags: FlaggedCounts
    content_by_hour: NDArray[np.int64]  # sums of hashes of all values
    earlier_content_by_hour: NDArray[np.int64]  # the same with the labels that `View.earlier` knew; zeros without it
    columns: str  # names the columns that are hashed: contents of other columns cannot be compared
    on_whole_hours: bool  # whether every transaction is at the beginning of an hour
    equal_rows: int  # good rows that say the same as another one, where ids are derived
    refunds: int  # good rows with a negative amount, left out or turned positive as `data.refunds` says
    unknown_cards: int  # rows without a card, where cards are mapped
    unknown_terminals: int
    future: int  # rows later than the clock and the as-of time: not used, but worth a warning
    delays_by_hour: HourlyDelays  # empty without label times
    label_delay: timedelta | None  # 90 % of the frauds were known after this time; None without label times
    labels: LabelTableProfile | None  # None without a label table

    @property
    def first(self) -> datetime:
        """The time of the oldest transaction, in UTC."""
        return self._good_span()[0]

    @property
    def newest(self) -> datetime:
        """The time of the newest transaction, in UTC."""
        return self._good_span()[1]

    @property
    def default_as_of(self) -> datetime:
        """The first whole hour after the newest transaction."""
        return whole_hour(self.newest) + timedelta(hours=1)

    def reaches(self, moment: datetime) -> bool:
        """Whether any time in the input is at or after a moment."""
        return self.latest >= (moment - _EPOCH) // timedelta(microseconds=1)

    def hours_between(self, start: datetime, end: datetime) -> NDArray[np.bool_]:
        """Which of the hours lie in [start, end); both on whole hours."""
        chosen: NDArray[np.bool_] = (self.hours >= _hour(start)) & (self.hours < _hour(end))
        return chosen

    def left_out_by_hour(self, data: settings.Data) -> NDArray[np.int64]:
        """The rows that have no label and get none: all without one, or those that were blocked."""
        return self.flags.blocked_unlabelled if data.unlabelled_is_genuine else self.unlabelled_by_hour

    def fingerprint(self, start: datetime, end: datetime) -> str:
        """Of the good transactions in [start, end), whole hours, with the labels known at the as-of time.

        Equal for equal rows whatever the files, their order and the engine. The part before the hyphen names the
        columns.
        """
        return self._fingerprint(self.content_by_hour, start, end)

    def earlier_fingerprint(self, start: datetime, end: datetime) -> str:
        """What `fingerprint` was at the moment `View.earlier`, if these data were the same then."""
        return self._fingerprint(self.earlier_content_by_hour, start, end)

    def _fingerprint(self, content: NDArray[np.int64], start: datetime, end: datetime) -> str:
        used = self.hours_between(start, end) & (self.transactions_by_hour > 0)
        rows = np.column_stack([self.hours.astype(np.int64), self.transactions_by_hour, content])[used]
        return f"{self.columns}-{hashlib.sha256(rows.astype('<i8').tobytes()).hexdigest()}"

    def require_share(self, max_share: float, quarantine: str | None = None) -> None:
        """Stop the run when more than `max_share` of the rows, or of the rows of the label table, cannot be used.

        Raises:
            DataError: it is more, or nothing is left; names counts, columns and the `quarantine` that holds the rows.
        """
        labels = self.labels
        if labels is not None and labels.without_id > max_share * labels.rows:
            share = f"{labels.without_id:,} of {labels.rows:,} rows ({labels.without_id / labels.rows:.2%})"
            raise DataError(f"{share} of the label table have no transaction id or are broken; {_limit(max_share)}")
        bad = self.rejected_rows
        if bad <= max_share * self.rows and self.span is not None:
            return
        counts = "".join(f"\n  {self._counted(reason)}; expected {EXPECTED[reason]}" for reason in self.rejected)
        where = f"\nall rejected rows: {quarantine}" if quarantine else ""
        share = f"{bad:,} of {self.rows:,} rows ({bad / self.rows:.2%}) break the data contract"
        raise DataError(f"{share}; {_limit(max_share)}:{counts}{where}\n{self._remedy(bad)}")

    def warnings(self, data: settings.Data, run: RunWindows, quarantine: str | None = None) -> tuple[str, ...]:
        """What the owner of the data should check, although the run goes on. Rows after the as-of time do not count.

        Args:
            data: the settings.
            run: the windows.
            quarantine: where the rejected rows are.
        """
        found = (
            self._rejected_rows(quarantine),
            self._future_rows(),
            self._hours_without_rows(run),
            self._odd_fraud_rate(data, run),
            self._slow_labels(run),
            self._labels_without_transaction(),
        )
        return tuple(warning for warning in found if warning is not None)

    def _good_span(self) -> tuple[datetime, datetime]:
        if self.span is None:
            self.require_share(0.0)
            raise DataError("the input has no valid row")
        return self.span

    def _remedy(self, bad: int) -> str:
        """What to do next. Where most rows are bad, a higher limit would only hide a wrong setting."""
        if bad > _MOST_BAD * self.rows:
            return "so many rows share a cause: correct data.columns or the other settings of data, or the input"
        return "correct the input or the settings of data, or raise data.max_rejected_share"

    def _counted(self, reason: str) -> str:
        fault = f" ({self.faults[reason]})" if reason in self.faults else ""
        return f"{reason} {self.rejected[reason]:,}{fault}"

    def _rejected_rows(self, quarantine: str | None) -> str | None:
        if not self.rejected:
            return None
        counts = "; ".join(self._counted(reason) for reason in self.rejected)
        where = f"; all rejected rows: {quarantine}" if quarantine else ""
        return f"{self.rejected_rows:,} of {self.rows:,} rows were rejected: {counts}{where}"

    def _future_rows(self) -> str | None:
        if not self.future:
            return None
        return f"{self.future:,} rows are later than the clock of the run; they are quarantined and not used"

    def _hours_without_rows(self, run: RunWindows) -> str | None:
        start = max(whole_hour(self.first), run.history_start)
        used = np.arange(_hour(start), _hour(run.as_of))
        filled = self.hours[self.transactions_by_hour > 0]
        empty = used[~np.isin(used, filled)]
        if not len(empty):
            return None
        return f"{len(empty):,} of {len(used):,} hours have no transaction; the first is {empty[0]}:00, UTC"

    def _odd_fraud_rate(self, data: settings.Data, run: RunWindows) -> str | None:
        mature = (self.hours >= _hour(run.history_start)) & (self.hours < _hour(run.holdout_end))
        total = int((self.transactions_by_hour - self.left_out_by_hour(data))[mature].sum())
        frauds = int(self.frauds_by_hour[mature].sum())
        low, high = data.fraud_rate_band
        if total == 0 or low <= frauds / total <= high:
            return None
        rate = f"{frauds:,} of {total:,} mature transactions ({frauds / total:.3%}) are frauds"
        return f"{rate}, outside data.fraud_rate_band {low:.3%} to {high:.3%}"

    def _slow_labels(self, run: RunWindows) -> str | None:
        assumed = run.as_of - run.holdout_end
        if self.label_delay is None or self.label_delay <= assumed:
            return None
        day = timedelta(days=1)
        return (
            f"10 % of the frauds became known only after {self.label_delay / day:.1f} days or later, and windows."
            f"maturity_days is {span_setting(assumed / day)}: their transactions count as genuine in the hold-out"
        )

    def _labels_without_transaction(self) -> str | None:
        if self.labels is None or self.labels.without_transaction == 0:
            return None
        return f"{self.labels.without_transaction:,} of {self.labels.rows:,} label rows have no transaction"


def measure(rows: DataFrame, fields: tuple[Field, ...], view: View, *, by_day: bool = False) -> pd.DataFrame:
    """One row for each combination of reasons; of good rows for each hour and, for frauds, label delay (hours, up).

    Columns: reason, hour (since 1970), delay, rows, frauds, unlabelled, refunds, copies, those of `FlaggedCounts`,
    customer_id and terminal_id (rows without), first, newest and latest_label (in microseconds since 1970), and content
    and earlier_content, sums of hashes of all values, which both engines compute alike. With `by_day` also day (since
    1970, null without a time): rows of different days are then apart, bad ones too.
    """
    good = F.col("reason").isNull()
    micros = F.unix_micros("transaction_time")
    fraud = F.col("fraud")
    dated = any(field.name == "label_available_at" for field in fields)
    label_micros = F.unix_micros("label_available_at") if dated else F.lit(None).cast("bigint")
    delay = F.when(good & (fraud == 1), F.ceil((label_micros - micros) / _HOUR_MICROS))
    earlier = F.lit(0).cast("bigint") if view.earlier is None else _content(rows, fields, view.earlier)
    return (
        rows.select(
            "reason",
            *([F.floor(micros / _DAY_MICROS).alias("day")] if by_day else []),
            F.when(good, F.floor(micros / _HOUR_MICROS)).alias("hour"),
            delay.cast("bigint").alias("delay"),
            (fraud == 1).cast("int").alias("is_fraud"),
            fraud.isNull().cast("int").alias("is_unlabelled"),
            (F.col("_is_refund") & (good | (F.col("reason") == REFUND))).cast("int").alias("_is_refund"),
            (F.col("_is_copy") if "_is_copy" in rows.columns else F.lit(False)).cast("int").alias("_is_copy"),
            *(column.cast("int").alias(name) for name, column in _flagged(rows).items()),
            *(_is_missing(name, fields).alias(name) for name in RETIRABLE),
            micros.alias("micros"),
            label_micros.alias("label_micros"),
            _content(rows, fields, None).alias("hashed"),
            earlier.alias("earlier"),
        )
        .groupBy("reason", "hour", "delay", *(["day"] if by_day else []))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.sum("is_fraud").alias("frauds"),
            F.sum("is_unlabelled").alias("unlabelled"),
            F.sum("_is_refund").alias("refunds"),
            F.sum("_is_copy").alias("copies"),
            *(F.sum(name).alias(name) for name in _FLAGGED),
            *(F.sum(name).alias(name) for name in RETIRABLE),
            F.min("micros").alias("first"),
            F.max("micros").alias("newest"),
            F.max("label_micros").alias("latest_label"),
            F.sum("hashed").alias("content"),
            F.sum("earlier").alias("earlier_content"),
        )
        .toPandas()
    )


def profile(
    measured: pd.DataFrame,
    faults: dict[str, str],
    labels: LabelTableProfile | None,
    view: View,
    columns: tuple[Field, ...],
) -> Profile:
    """Put the result of `measure` into words and arrays."""
    bad = measured[measured["reason"].notna() & (measured["reason"] != REFUND)]
    good = measured[measured["reason"].isna()].fillna({"frauds": 0})
    excluded = int(measured[measured["reason"] == REFUND]["rows"].sum())
    bad = bad.assign(reason=bad["reason"].astype("string").str.split(SEPARATOR))
    future = 0
    if not view.rejects_future:
        of_future = bad["reason"].map(lambda found: "future_time" in found).astype(bool)
        future, bad = int(bad[of_future]["rows"].sum()), bad[~of_future]
    rejected = bad.explode("reason").groupby("reason")["rows"].sum()
    sums = ["rows", "frauds", "unlabelled", "content", "earlier_content", *_FLAGGED]
    by_hour = good.groupby("hour")[sums].sum().astype("int64")
    span = (_time(good["first"].min()), _time(good["newest"].max())) if len(good) else None
    if len(by_hour):
        by_hour = by_hour.reindex(np.arange(by_hour.index.min(), by_hour.index.max() + 1), fill_value=0)
    return Profile(
        rows=int(measured["rows"].sum()) - future - excluded,
        rejected={str(name): int(rejected[name]) for name in sorted(rejected.index, key=lambda n: (-rejected[n], n))},
        rejected_rows=int(bad["rows"].sum()),
        faults=faults,
        span=span,
        latest=int(measured[["newest", "latest_label"]].astype("float64").max().fillna(0).max()),
        hours=by_hour.index.to_numpy("int64").astype("datetime64[h]"),
        transactions_by_hour=by_hour["rows"].to_numpy(),
        frauds_by_hour=by_hour["frauds"].to_numpy(),
        unlabelled_by_hour=by_hour["unlabelled"].to_numpy(),
        flags=FlaggedCounts(*(by_hour[name].to_numpy() for name in _FLAGGED)),
        content_by_hour=by_hour["content"].to_numpy(),
        earlier_content_by_hour=by_hour["earlier_content"].to_numpy(),
        columns=_columns(columns, of_table=labels is not None),
        on_whole_hours=bool(((good[["first", "newest"]] % _HOUR_MICROS) == 0).all(axis=None)),
        equal_rows=int(good["copies"].sum()),
        refunds=excluded + int(good["refunds"].sum()),
        unknown_cards=int(good["customer_id"].sum()),
        unknown_terminals=int(good["terminal_id"].sum()),
        future=future,
        delays_by_hour=_hourly_delays(good),
        label_delay=_delay_quantile(good),
        labels=labels,
    )


def _hourly_delays(good: pd.DataFrame) -> HourlyDelays:
    found = good.dropna(subset="delay")
    counts = found.groupby(["hour", "delay"])["rows"].sum().reset_index().astype("int64")
    return HourlyDelays(
        counts["hour"].to_numpy("int64").astype("datetime64[h]"), counts["delay"].to_numpy(), counts["rows"].to_numpy()
    )


def _delay_quantile(good: pd.DataFrame) -> timedelta | None:
    counts = good.dropna(subset="delay").groupby("delay")["rows"].sum().sort_index()
    if not len(counts):
        return None
    reached = counts.cumsum() >= _DELAY_QUANTILE * counts.sum()
    return timedelta(hours=int(reached.idxmax()))


def _columns(fields: tuple[Field, ...], *, of_table: bool) -> str:
    """A short name of what is hashed, and how."""
    said = " ".join([*(field.name for field in fields), "label table" if of_table else ""])
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def _content(rows: DataFrame, fields: tuple[Field, ...], known: datetime | None) -> Column:
    """A hash of a row, with its labels as they were known at a moment (None: as they are)."""
    dated = any(field.name == "label_available_at" for field in fields)
    counts = known_by(known) if dated and known is not None else F.lit(True)
    if HISTORY in rows.columns:
        hashed = [_hashable(field) for field in fields if field.name not in OF_LABEL]
        hashed.append(_labels_as_text(rows, counts, EARLIER_HISTORY if known is not None else HISTORY))
    else:
        hashed = [_hashable(field, counts if field.name in OF_LABEL else None) for field in fields]
    return F.xxhash64(*hashed, *_missing_ids(fields)).bitwiseAND(F.lit(0x7FFFFFFF))


def _labels_as_text(rows: DataFrame, counts: Column, history: str) -> Column:
    """All labels of a transaction, a single one as a history too: at another time it may be one of many."""
    fraud, available = F.col("fraud"), F.col("label_available_at")
    some = counts & (fraud.isNotNull() | available.isNotNull())
    single = F.when(some, label_text(fraud, available)).otherwise("")
    return F.coalesce(history, single) if history in rows.columns else single


def _missing_ids(fields: tuple[Field, ...]) -> list[Column]:
    """Which ids are null; where none is, null itself, so that the hashes of earlier releases stay."""
    return [F.when(F.col(field.name).isNull(), field.name) for field in fields if field.kind is Kind.ID]


def _hashable(field: Field, counts: Column | None = None) -> Column:
    """A column without what hashes differently (zero has two signs) or not at all: null moves the rest up unseen."""
    column = F.col(f"`{field.name}`")
    column = column if counts is None else F.when(counts, column)
    match field.kind:
        case Kind.AMOUNT | Kind.NUMBER:
            return F.coalesce(F.when(column == 0, 0.0).otherwise(column), F.lit(_LOWEST))
        case Kind.LABEL | Kind.FLAG:
            return F.coalesce(column, F.lit(-1).cast("tinyint"))
        case Kind.TIME:
            return F.coalesce(F.unix_micros(column), F.lit(-1))
        case Kind.CATEGORY:
            return F.coalesce(column, F.lit("null"))
        case Kind.ID:  # a missing one is told by `_missing_ids`
            return column


_FLAGGED = tuple(field.name for field in dataclasses.fields(FlaggedCounts))


def _flagged(rows: DataFrame) -> dict[str, Column]:
    """Whether a row is counted in each of the `FlaggedCounts`."""
    blocked, control = (F.col(name) == 1 if name in rows.columns else F.lit(False) for name in FLAGS)
    unlabelled = F.col("fraud").isNull()
    fraud = F.coalesce(F.col("fraud") == 1, F.lit(False))
    return dict(
        zip(_FLAGGED, (blocked, blocked & unlabelled, control, control & fraud, control & unlabelled), strict=True)
    )


def _is_missing(name: str, fields: tuple[Field, ...]) -> Column:
    """1 where a mapped id is null, else 0."""
    mapped = any(field.name == name for field in fields)
    return F.col(name).isNull().cast("int") if mapped else F.lit(0)


def _hour(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "h")


def _time(micros: float) -> datetime:
    return _EPOCH + timedelta(microseconds=int(micros))


def _limit(max_share: float) -> str:
    return f"at most {max_share:.2%} may"
