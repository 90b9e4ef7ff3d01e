"""What is known about the rows: the profile, its warnings, and the quarantine."""

import csv
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from pyspark.sql import SparkSession
from reader_data import (
    ALL,
    CLOCK,
    NOON,
    Row,
    fingerprint,
    read,
    row,
    rows_of,
    write_csv,
    write_parquet,
)

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.schema import DataCounts
from fraud_detection.storage import open_folder
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.coverage import coverage_text, coverage_warnings, data_counts
from fraud_detection.transactions.quarantine import write_quarantine
from fraud_detection.transactions.reader import read_transactions

pytest_plugins = ["reader_data"]


def test_the_profile_counts_good_rows_by_hour_without_gaps(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when hourly counts are wrong or leave out hours without rows, so that a data outage stays hidden."""
    times = [NOON, NOON + timedelta(minutes=59), NOON + timedelta(hours=2, minutes=30)]
    rows = [row(n, transaction_time=time, fraud=(1, 0, None)[n]) for n, time in enumerate(times)]
    write_parquet(tmp_path / "a.parquet", rows)
    profile = read(spark, tmp_path).profile
    assert profile.hours.tolist() == [NOON + timedelta(hours=n) for n in range(3)]
    assert profile.transactions_by_hour.tolist() == [2, 0, 1]
    assert profile.frauds_by_hour.tolist() == [1, 0, 0]
    assert profile.unlabelled_by_hour.tolist() == [0, 0, 1]
    assert (profile.first, profile.newest) == (times[0].replace(tzinfo=UTC), times[2].replace(tzinfo=UTC))


@pytest.mark.parametrize("newest", [NOON, NOON + timedelta(minutes=59, microseconds=1)])
def test_t_is_the_first_whole_hour_after_the_newest_transaction(
    spark: SparkSession, tmp_path: Path, newest: datetime
) -> None:
    """Fails when the default as-of time is not after every transaction, so that the newest ones are left out."""
    write_parquet(tmp_path / "a.parquet", [row(1, transaction_time=newest)])
    assert read(spark, tmp_path).profile.default_as_of == NOON.replace(tzinfo=UTC) + timedelta(hours=1)


def test_the_fingerprint_tells_contents_apart_and_not_files(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when changed data keep their fingerprint, or the same data split into other files get a new one."""
    rows = [row(1, v=1.0, w=1.0), row(2, amount=0.0, v=1.0, w=1.0)]
    write_parquet(tmp_path / "a" / "1.parquet", rows)
    write_parquet(tmp_path / "b" / "x" / "2.parquet", rows[1:])
    write_parquet(tmp_path / "b" / "1.parquet", rows[:1])
    changes: list[Row] = [{"amount": 0.01}, {"fraud": 1}, {"fraud": None}, {"transaction_id": 3}]
    changes += [{"label_available_at": None}, {"v": None}, {"w": None}, {"v": 2.0}]
    for number, change in enumerate(changes):
        write_parquet(tmp_path / str(number) / "1.parquet", [rows[0], rows[1] | change])
    names = ["a", "b", *(str(number) for number in range(len(changes)))]
    columns = settings.Columns(label_available_at="label_available_at", extra_numeric=("v", "w"))
    found = {name: fingerprint(read(spark, tmp_path / name, columns)) for name in names}
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 1 + len(changes)


def test_too_many_bad_rows_stop_the_run_with_counts_and_shapes(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a run goes on with too many bad rows, or stops without saying how many there are and where to look."""
    write_parquet(tmp_path / "a.parquet", [row(n) for n in range(9)] + [row(9, amount=-3.5)])
    profile = read(spark, tmp_path).profile
    profile.require_share(0.1)
    with pytest.raises(DataError, match=r"1 of 10 rows \(10.00%\)[^~]*bad_amount 1 \(amount: -9\.9\)") as caught:
        profile.require_share(0.09, "output/quarantine/1/rejected.csv")
    assert "output/quarantine/1/rejected.csv" in str(caught.value)


def test_an_input_of_bad_rows_only_stops_the_run_whatever_is_allowed(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when input without one good row ends in a stack trace because the limit of bad rows is set to 100%."""
    write_parquet(tmp_path / "a.parquet", [row(1, amount=-3.5)])
    found = read(spark, tmp_path)
    assert write_quarantine(found, open_folder(str(tmp_path / "out")), "run.csv") is not None
    for stop in (lambda: found.profile.require_share(1.0), lambda: found.profile.default_as_of):
        with pytest.raises(DataError, match=r"amount: -9\.9"):
            stop()


def test_the_quarantine_holds_the_bad_rows_with_reasons(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the quarantine file lacks a rejected row, its original values or the reason."""
    write_csv(tmp_path / "in" / "a.csv", [row(1), row(2, amount="1 000"), row(3, fraud=3)])
    output = open_folder(str(tmp_path / "out"))
    place = write_quarantine(read(spark, tmp_path / "in"), output, "run.csv")
    assert place == str(tmp_path / "out" / "run.csv")
    rows = pyarrow.csv.read_csv(place).select(["transaction_id", "reason", "amount", "fraud"]).to_pylist()
    assert sorted(rows, key=lambda r: r["transaction_id"]) == [
        {"transaction_id": 2, "reason": "bad_amount", "amount": "1 000", "fraud": 0},
        {"transaction_id": 3, "reason": "bad_label", "amount": "10.5", "fraud": 3},
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("'quoted", "''quoted"),
        ("-12.50", "-12.50"),
        ("+1e5", "+1e5"),
        ("12,50", "12,50"),
    ],
)
def test_the_quarantine_holds_no_formula_and_every_text_can_be_had_back(
    spark: SparkSession, tmp_path: Path, text: str, written: str
) -> None:
    """Fails when opening the quarantine in a spreadsheet runs a formula that a stranger put into a transaction."""
    write_parquet(tmp_path / "in" / "a.parquet", [row(1, customer_id="C1"), row(2, amount=-1.0, customer_id=text)])
    place = write_quarantine(read(spark, tmp_path / "in"), open_folder(str(tmp_path / "out")), "run.csv")
    assert place is not None
    with Path(place).open(encoding="utf-8", newline="") as file:
        found = next(csv.DictReader(file))
    assert (found["customer_id"], found["amount"]) == (written, "-1.0")
    assert found["customer_id"].removeprefix("'") == text


def test_the_names_of_the_quarantine_s_columns_are_no_formulas_either(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the header of the quarantine file runs as a formula in a spreadsheet."""
    (tmp_path / "a.csv").write_text("transaction_id,transaction_time,=1+1,fraud\n1,2025-03-04,1,0\n2,2025-03-04,x,0\n")
    columns = settings.Columns(amount="=1+1", customer_id=None, terminal_id=None)
    place = write_quarantine(read(spark, tmp_path, columns), open_folder(str(tmp_path / "out")), "run.csv")
    assert place is not None
    assert Path(place).read_text(encoding="utf-8").splitlines()[0].split(",")[3] == '"\'=1+1"'


def test_few_values_of_the_label_column_are_shown_and_many_only_by_shape(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a message repeats ids from a wrongly mapped label column, or hides labels such as `Y` and `N`."""
    labels = ["Y", "N", "suspected fraud", "4111111111111111"]
    write_csv(tmp_path / "few" / "a.csv", [row(0), *(row(n, fraud=text) for n, text in enumerate(labels, 1))])
    shown = read(spark, tmp_path / "few").profile.faults["bad_label"]
    assert set(shown.removeprefix("fraud: ").split(" or ")) == {"Y", "N", "suspected fraud", "9" * 16}
    write_csv(tmp_path / "many" / "a.csv", [row(0), *(row(n, fraud=n) for n in range(20, 40))])
    assert read(spark, tmp_path / "many").profile.faults["bad_label"] == "fraud: 99"


def test_the_most_frequent_shapes_are_shown_first_and_long_texts_are_cut(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when one odd value hides the most frequent fault, or the shape of a long text fills the message."""
    amounts = ["x" * 99, "$1.50", "$2.50", "$3.50", "12,5", "13,5"]
    write_csv(tmp_path / "a.csv", [row(0), *(row(n, amount=f'"{text}"') for n, text in enumerate(amounts, 1))])
    found = read(spark, tmp_path).profile.faults["bad_amount"]
    assert found == f"amount: $9.99 or 99,9 or {'a' * 32}…" + '; next: data.format.currency: ["$"]'


def test_a_file_without_a_header_shows_no_transaction(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when the message about missing columns repeats the first row of a file without a header."""
    (tmp_path / "a.csv").write_text("10417,2025-03-04 12:00:00,731.55,0,C77123,T9\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(spark, tmp_path)
    assert "columns found: 99999, 9999-99-99 99:99:99, 999.99, 9, A99999, A9" in str(caught.value)


def test_nothing_is_written_when_nothing_was_rejected(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a run on clean data leaves an empty quarantine file that suggests a problem."""
    write_csv(tmp_path / "in" / "a.csv", [row(1)])
    assert write_quarantine(read(spark, tmp_path / "in"), open_folder(str(tmp_path / "out")), "run.csv") is None
    assert not (tmp_path / "out").exists()


def hourly(folder: Path, hours: int, **changes: Any) -> None:
    rows = [row(n, transaction_time=NOON + timedelta(hours=n), label_available_at=None) for n in range(hours)]
    for one in rows:
        one.update({name: change(one["transaction_id"]) for name, change in changes.items()})
    write_parquet(folder / "a.parquet", rows, label_available_at=pa.timestamp("us"))


def warnings_of(spark: SparkSession, folder: Path, as_of: datetime | None = None, **data: Any) -> tuple[str, ...]:
    profile = read(spark, folder, **data).profile
    run = run_windows(as_of or profile.default_as_of, settings.Windows())
    return profile.warnings(settings.Data(columns=ALL, **data), run)


def test_quiet_data_give_no_warning(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when normal data raise a warning, and people learn to ignore warnings."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0))
    assert warnings_of(spark, tmp_path) == ()


def test_hours_without_rows_are_warned_of_also_at_the_end(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when missing hours of data, also the newest ones, are not reported."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0))
    stale = (NOON + timedelta(hours=1003)).replace(tzinfo=UTC)
    assert warnings_of(spark, tmp_path, stale) == (
        "3 of 1,003 hours have no transaction; the first is 2025-04-15T04:00, UTC",
    )


def test_a_fraud_rate_outside_its_band_is_warned_of(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a fraud rate outside `data.fraud_rate_band` goes unreported, and wrong labels are trained on."""
    hourly(tmp_path, 1000, fraud=lambda n: int(n % 10 == 0))
    assert "are frauds, outside data.fraud_rate_band 0.010% to 5.000%" in warnings_of(spark, tmp_path)[0]


def test_labels_slower_than_the_label_delay_are_warned_of(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when labels that arrive later than the configured delay go unreported, and late frauds count as genuine."""

    def available(n: int) -> datetime:
        return NOON + timedelta(hours=n, days=8 if n % 100 < 20 else 1)

    hourly(tmp_path, 1000, fraud=lambda n: int(n % 50 == 0), label_available_at=available)
    assert "after 8.0 days or later" in warnings_of(spark, tmp_path)[0]


def test_a_run_records_how_fresh_its_data_and_labels_are(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a feed that thins out, or labels later each week, cannot be seen in MLflow and on the dashboard."""

    def available(n: int) -> datetime:
        return NOON + timedelta(hours=n, days=2)

    hourly(tmp_path, 72, fraud=lambda n: int(n % 12 == 0), label_available_at=available)
    profile = read(spark, tmp_path).profile
    as_of = profile.newest + timedelta(hours=6)
    counts = data_counts(profile, datetime(2000, 1, 1, tzinfo=UTC), as_of, as_of)
    assert (counts.last_day, counts.age_hours, counts.label_delay_days) == (19, 6.0, 2.0)


def counted(spark: SparkSession, folder: Path, **data: Any) -> tuple[DataCounts, tuple[str, ...], tuple[str, ...]]:
    """The counts of all matured rows, the short text of what is missing, and the warnings."""
    profile = read(spark, folder, **data).profile
    found, chosen = (
        data_counts(profile, datetime(2000, 1, 1, tzinfo=UTC), CLOCK, CLOCK),
        settings.Data(columns=ALL, **data),
    )
    return found, coverage_text(found, chosen), coverage_warnings(found, profile, chosen)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("policy", ["reject", "exclude", "absolute"])
def test_refunds_are_what_the_settings_say_and_counted(
    spark: SparkSession, tmp_path: Path, form: str, policy: str
) -> None:
    """Fails when refunds stop a run that may leave them out, enter the training unseen, or hide other faults."""
    amounts = [10.5, -5.0, -7.0, 3.0, float("-inf"), -1e13]
    rows = [row(n, amount=amount) for n, amount in enumerate(amounts)] + [row(9, amount=-1.0, fraud=7)]
    (write_csv if form == "csv" else write_parquet)(tmp_path / f"a.{form}", rows)
    found = read(spark, tmp_path, refunds=policy)
    used = [r["amount"] for r in rows_of(found)]
    assert used == {"reject": [10.5, 3.0], "exclude": [10.5, 3.0], "absolute": [10.5, 5.0, 7.0, 3.0]}[policy]
    assert found.profile.refunds == (0 if policy == "reject" else 2)
    assert found.profile.rejected == {"bad_amount": 5 if policy == "reject" else 2, "bad_label": 1}
    assert found.profile.rejected_rows == (5 if policy == "reject" else 3)
    assert found.profile.rows == (5 if policy == "exclude" else 7)
    assert found.rejected is not None
    assert found.rejected.count() == found.profile.rejected_rows
    _, shown, warned = counted(spark, tmp_path, refunds=policy)
    said = {"reject": "", "exclude": "2 refunds left out", "absolute": "2 refunds as positive amounts"}[policy]
    assert said in " ".join(shown)
    assert any(f"data.refunds: {policy}" in text for text in warned) == (policy != "reject")


def test_refunds_alone_are_no_input(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when an input whose amounts are all negative ends in a stack trace, or in a run without rows."""
    write_parquet(tmp_path / "a.parquet", [row(1, amount=-3.5)])
    with pytest.raises(DataError, match=r"all 1 rows have a negative amount, which data.refunds leaves out"):
        read(spark, tmp_path, refunds="exclude")


@pytest.mark.parametrize(
    ("labels", "limit", "shown", "warned"),
    [
        ([0, 0, 0, 1, None], 0.1, "20.0% of the matured transactions without a label", True),
        ([0, 0, 0, 1, None], 0.2, "20.0% of the matured transactions without a label", False),
        ([None, None, None, None, 1], 0.1, "only frauds are labelled", False),
        ([0, 0, 0, 0, 1], 0.0, "", False),
    ],
)
def test_transactions_without_a_label_are_counted_and_warned_of(
    spark: SparkSession, tmp_path: Path, labels: list[int | None], limit: float, shown: str, warned: bool
) -> None:
    """Fails when most of the labels are missing and count as genuine without a word."""
    rows = [row(n, fraud=label, label_available_at=None) for n, label in enumerate(labels)]
    write_parquet(tmp_path / "a.parquet", rows, label_available_at=pa.timestamp("us"), fraud=pa.int8())
    for genuine, consequence in ((True, "they count as genuine"), (False, "they are left out")):
        found, text, warnings = counted(spark, tmp_path, max_unlabelled_share=limit, unlabelled_is_genuine=genuine)
        assert found.matured_unlabelled == labels.count(None)
        assert text == ((shown,) if shown else ())
        assert [consequence in one and "data.unlabelled_is_genuine" in one for one in warnings] == [True] * warned


@pytest.mark.parametrize(
    ("hours", "warned"),
    [(lambda n: 24 * n, True), (lambda n: 24 * n + 22 - n % 2, True), (lambda n: n, False), (lambda n: 1.5 * n, False)],
    ids=["dates", "dates of a zone with summer time", "hours", "half hours"],
)
def test_dates_without_a_time_of_day_are_warned_of(
    spark: SparkSession, tmp_path: Path, hours: Callable[[int], float], warned: bool
) -> None:
    """Fails when a date column is taken for times, and every payment of a day counts as one of midnight."""
    midnight = NOON.replace(hour=0)
    rows = [row(n, transaction_time=midnight + timedelta(hours=hours(n)), label_available_at=None) for n in range(30)]
    write_parquet(tmp_path / "a.parquet", rows, label_available_at=pa.timestamp("us"))
    assert any("all transaction times are 00:00" in one for one in counted(spark, tmp_path)[2]) == warned


def test_the_default_settings_file_says_every_default() -> None:
    """Fails when conf/retraining.yaml, where users look settings up, lacks a setting or shows another default."""
    path = Path(__file__).parents[2] / "conf" / "retraining.yaml"
    loaded = settings.load_settings(path)
    assert loaded.data.columns.label_available_at == "label_available_at"
    defaults = settings.Settings(data=settings.Data(columns=ALL))
    assert loaded == defaults
    assert yaml.safe_load(path.read_text()).keys() == defaults.model_dump().keys()
    for section, values in yaml.safe_load(path.read_text()).items():
        if isinstance(values, dict):
            assert values.keys() == defaults.model_dump()[section].keys()


@pytest.mark.needs("HANDBOOK_DATA")
def test_the_handbooks_transactions_are_all_good(spark: SparkSession) -> None:
    """Fails when a transaction of the Handbook is rejected, and its published figures cannot be reproduced."""
    data = settings.load_settings(Path(__file__).parents[2] / "conf" / "handbook.yaml").data
    profile = read_transactions(spark, data, os.environ["HANDBOOK_DATA"], CLOCK).profile
    assert (profile.rows, profile.rejected) == (1_754_155, {})
    assert profile.frauds_by_hour.sum() == 14_681
    assert len(profile.hours) == 183 * 24
    assert profile.default_as_of == datetime(2018, 10, 1, tzinfo=UTC)
