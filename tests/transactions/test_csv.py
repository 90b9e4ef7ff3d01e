"""CSV text is parsed into values; a bad value never changes its neighbours, whichever way their batch is parsed."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.settings import Format
from fraud_detection.transactions import csv as text
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.numbers import read_numbers
from fraud_detection.transactions.times import read_times
from fraud_detection.transactions.values import read_labels

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2200-01-01"), timezones=zones)
SINCE_1970 = datetime.fromisoformat("1970-01-01T00:00Z")


def micros(texts: list[str | None]) -> list[int | None]:
    found: list[int | None] = read_times(pa.array(texts, pa.string()), Format()).cast(pa.int64()).to_pylist()
    return found


def numbers(texts: list[str | None]) -> list[float | None]:
    found: list[float | None] = read_numbers(pa.array(texts, pa.string()), Format()).to_pylist()
    return found


@settings(deadline=None)
@given(moments, st.sampled_from("T "), st.sampled_from(["auto", "seconds", "milliseconds", "microseconds"]))
def test_every_iso_time_is_read_as_python_reads_it(moment: datetime, separator: str, precision: str) -> None:
    """Fails when an ISO 8601 time in a CSV file is read as another instant, perhaps of another day."""
    written = moment.isoformat(separator, precision)
    expected = (datetime.fromisoformat(written) - SINCE_1970) // timedelta(microseconds=1)
    assert micros([written]) == [expected]


@settings(deadline=None)
@given(moments)
def test_a_time_without_zone_is_utc(moment: datetime) -> None:
    """Fails when times without a zone are not read as UTC, so features and windows are shifted by hours."""
    naive = moment.replace(tzinfo=None).isoformat(" ")
    assert micros([naive]) == micros([naive + "Z"])


pieces = st.sampled_from(
    ["2024", "-", "02", "30", "29", "T", " ", "10", ":", ".", "5", "1234567", "Z", "+03:00", "-0330", "x"]
)
times_or_not = st.one_of(
    moments.map(datetime.isoformat), st.lists(pieces, max_size=14).map("".join), st.text(max_size=8)
)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), times_or_not), max_size=20))
def test_a_time_means_the_same_alone_and_among_others(texts: list[str | None]) -> None:
    """Fails when one bad or differently written time in a batch changes how the other rows are read."""
    assert micros(texts) == [micros([one])[0] for one in texts]


@pytest.mark.parametrize(
    "written",
    [
        "31.12.2024",
        "2024-02-30",
        "2024-13-01",
        "20240101",
        "1704067200",
        "2024-01-01T25:00",
        "1969-12-31",
        "now",
        "2024",
    ],
)
def test_what_is_no_time_since_1970_is_none(written: str) -> None:
    """Fails when text that is not a time since 1970 is read as some time instead of being rejected."""
    assert micros([written]) == [None]


@settings(deadline=None)
@given(st.floats(allow_nan=False))
def test_every_number_is_read_exactly(number: float) -> None:
    """Fails when a number in a CSV file loses digits, so CSV and Parquet input give different models."""
    assert numbers([repr(number)]) == [number]


digits = st.lists(
    st.sampled_from(["1", "0", ".", "-", "+", "e", "E", "inf", "nan", " ", ",", "_", "x", "٣"]), max_size=6
)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), digits.map("".join), st.floats().map(repr), st.text(max_size=5)), max_size=20))
def test_a_number_means_the_same_alone_and_among_others(texts: list[str | None]) -> None:
    """Fails when one bad or missing number in a batch changes how the other rows are read."""
    assert numbers(texts) == [numbers([one])[0] for one in texts]


@pytest.mark.parametrize("written", ["1,5", "1_000", "0x10", "ten", "€5", "1 000", "٣", "+", "--"])
def test_what_is_no_number_is_infinite_and_so_refused(written: str) -> None:
    """Fails when text that is not a number is read as a missing value, which is allowed, and is never reported."""
    assert numbers([written]) == [float("inf")]


@pytest.mark.parametrize("written", [None, "", "NULL", "NaN", "n/a", " ", "\\N", "-", "?"])
def test_missing_values_are_null_in_all_spellings(written: str | None) -> None:
    """Fails when a common spelling of a missing value is rejected as bad data."""
    assert numbers([written]) == [None]
    assert micros([written]) == [None]
    assert read_labels(pa.array([written], pa.string()), Format()).to_pylist() == [None]


def test_labels_are_zero_one_or_refused() -> None:
    """Fails when a valid label is rejected, or an invalid one (encoded as 2) counts as genuine or as fraud."""
    written = ["0", "1", "0.0", "1.0", "false", "TRUE", " 1 ", "2", "-1", "yes", "0.5"]
    assert read_labels(pa.array(written), Format()).to_pylist() == [0, 1, 0, 1, 0, 1, 1, 2, 2, 2, 2]


FIELDS = (
    Field("transaction_id", "id", Kind.ID),
    Field("transaction_time", "t", Kind.TIME),
    Field("amount", "a", Kind.AMOUNT),
)


def read(path: Path, content: bytes, name: str = "a.csv") -> list[dict[str, object]]:
    (path / name).write_bytes(content)
    batches = text.csv_batches(str(path / name), FIELDS, Format(), with_source=True)
    return [row for batch in batches for row in batch.to_pylist()]


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    """Fails when a CSV file saved by a spreadsheet (byte order mark, CRLF, quotes, blank lines) cannot be read."""
    content = '\ufeffa,"note","id",t\r\n1.5,"x, ""y""","7",2024-01-01\r\n\r\n'.encode()
    found = read(tmp_path, content)
    assert len(found) == 1
    assert (found[0]["transaction_id"], found[0]["amount"]) == ("7", 1.5)
    assert found[0]["transaction_time"] == datetime.fromisoformat("2024-01-01").replace(tzinfo=UTC)


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    """Fails when a gzip-compressed CSV file must be unpacked by hand before a run."""
    content = pa.compress(b"id,t,a\n7,2024-01-01,1.5\n", "gzip", asbytes=True)
    assert [row["transaction_id"] for row in read(tmp_path, content, "a.csv.gz")] == ["7"]


def test_a_last_line_cut_off_by_a_full_disk_is_broken_and_the_rest_is_read(tmp_path: Path) -> None:
    """Fails when a truncated last line stops the run, or is dropped without being reported."""
    found = read(tmp_path, b"id,t,a\n7,2024-01-01,1.5\n8,2024-0")
    assert [(row["defect"], row["broken_line"]) for row in found] == [(None, None), ("broken_line", "8,2024-0")]


def test_long_numbers_as_ids_keep_their_digits(tmp_path: Path) -> None:
    """Fails when long ids lose leading zeros or digits, so that two cards become one."""
    found = read(tmp_path, b"id,t,a\n0001234567890123456789,2024-01-01,1\n")
    assert found[0]["transaction_id"] == "0001234567890123456789"
