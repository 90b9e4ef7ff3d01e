"""One table in every form that files have: the same rows and the same fingerprint, whatever the form."""

import bz2
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from reader_data import CLOCK, Row, fingerprint, rows_of

from fraud_detection import settings
from fraud_detection.transactions.reader import read_transactions

pytest_plugins = ["reader_data"]

START = datetime(2025, 3, 1, 9, 30, tzinfo=UTC)
BASE: list[Row] = [
    {
        "transaction_id": f"t{number:03}",
        "transaction_time": START + timedelta(days=9 * number, hours=number % 12),
        "amount": round(1200.5 * number * number + 0.25, 2),
        "fraud": None if number % 7 == 3 else int(number % 5 == 0),
        "customer_id": f"00{number % 4}",
        "terminal_id": f"§ {number % 3}",
        "label_available_at": None if number % 7 == 3 else START + timedelta(days=9 * number + 4, minutes=20),
        "v": None if number % 6 == 1 else number * 1000.5 - 2,
    }
    for number in range(24)
]
NAMES = list(BASE[0])
COLUMNS = {"label_available_at": "label_available_at", "extra_numeric": ("v",)}

Texts = dict[str, Callable[[Any], str]]


def plain_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def local(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def since(moment: datetime, **unit: int) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(**unit)


def grouped(number: float, thousands: str = ",", decimal: str = ".") -> str:
    return f"{number:,.2f}".replace(",", "\0").replace(".", decimal).replace("\0", thousands)


@dataclass(frozen=True)
class Form:
    """How a file is written, and the settings that read it."""

    name: str
    format: dict[str, Any] = field(default_factory=dict)
    time: Callable[[datetime], str] = plain_time
    number: Callable[[float], str] = str
    label: Callable[[int], str] = str
    unknown: str = ""
    file: str = "a.csv"
    quote: str = ""
    line_end: str = "\n"
    before: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    header: Callable[[str], str] = str
    pack: Callable[[bytes], bytes] = bytes

    def write(self, folder: Path) -> None:
        separator = self.format.get("separator", ",")
        quote = self.quote
        lines = [separator.join(self.header(name) for name in NAMES)]
        for row in BASE:
            fields = (self._text(name, row[name]) for name in NAMES)
            lines.append(separator.join(f"{quote}{text}{quote}" if quote else text for text in fields))
        text = self.before + self.line_end.join([*lines, ""])
        encoding = self.format.get("encoding", "utf-8")
        (folder / self.file).write_bytes(self.pack(text.encode(encoding)))

    def _text(self, name: str, value: Any) -> str:
        if value is None:
            return self.unknown if name == "fraud" else ""
        if name.endswith(("_time", "_at")):
            return self.time(value)
        if name in {"amount", "v"}:
            return self.number(value)
        return self.label(value) if name == "fraud" else str(value)


def strptime_form(form: str) -> Form:
    return Form(f"time {form}", {"time_formats": [form]}, time=lambda moment: moment.strftime(form))


def count_form(unit: str, text: Callable[[datetime], str], **more: Any) -> Form:
    return Form(f"time in {unit} {more or ''}", {"time_unit": unit, **more}, time=text)


TWO_LABELS = {"fraud_values": ["Y"], "genuine_values": ["N"]}
MINUTES_2025 = datetime(2025, 1, 1, tzinfo=UTC)

CSV_FORMS = [
    Form("plain"),
    *(Form(f"separator {mark!r}", {"separator": mark}, quote='"') for mark in (";", "\t", "|", "\x01", "^")),
    *(
        Form(f"encoding {name}", {"encoding": name})
        for name in (
            "latin-1",
            "cp1251",
            "cp1252",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "utf-32",
            "utf-8-sig",
            "mac-roman",
        )
    ),
    Form("byte order mark", before="\ufeff"),
    Form("byte order mark, utf-16-le", {"encoding": "utf-16-le"}, before="\ufeff"),
    Form("quote '", {"quote": "'"}, quote="'"),
    Form("no quote", {"quote": None, "separator": ";"}),
    Form("skip 1", {"skip_lines": 1}, before="Export of today, all rows\n"),
    Form("skip 2, CRLF", {"skip_lines": 2}, before="Export\r\n\r\n", line_end="\r\n"),
    Form("skip 1, UTF-16", {"skip_lines": 1, "encoding": "utf-16"}, before="Export\r\n", line_end="\r\n"),
    Form("CRLF", line_end="\r\n"),
    Form("CR", line_end="\r"),
    *(Form(f"file {name}", file=name) for name in ("a.txt", "a.tsv", "A.CSV")),
    *(
        Form(f"packed {name}", file=name, pack=pack)
        for name, pack in (
            ("a.csv.gz", gzip.compress),
            ("a.csv.bz2", bz2.compress),
            ("a.csv.zst", lambda content: pa.compress(content, "zstd", asbytes=True)),
            ("a.txt.gz", lambda content: gzip.compress(content[:50]) + gzip.compress(content[50:])),
        )
    ),
    Form("tsv.bz2", {"separator": "\t", "encoding": "utf-16"}, file="a.tsv.bz2", pack=bz2.compress),
    *map(
        strptime_form,
        (
            "%d.%m.%Y %H:%M",
            "%d/%m/%Y %H:%M",
            "%m/%d/%Y %I:%M %p",
            "%d-%b-%Y %H:%M:%S",
            "%y%m%d%H%M",
            "%a %d %B %Y %H:%M",
            "%Y-%j %H:%M",
            "%d.%m.%Y %H:%M %z",
        ),
    ),
    Form("ISO with zone", time=lambda moment: moment.astimezone(ZoneInfo("Asia/Tokyo")).isoformat()),
    Form("ISO minutes", time=lambda moment: moment.strftime("%Y-%m-%dT%H:%M")),
    Form("Berlin", {"time_zone": "Europe/Berlin"}, time=lambda moment: plain_time(local(moment, "Europe/Berlin"))),
    Form(
        "two time formats",
        {"time_formats": ["%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M"], "time_zone": "America/New_York"},
        time=lambda m: local(m, "America/New_York").strftime("%d.%m.%Y %H:%M" if m.day % 2 else "%Y/%m/%d %H:%M"),
    ),
    count_form("s", lambda moment: f"{since(moment, seconds=1):.0f}"),
    count_form("s", lambda moment: f"{since(moment, seconds=1):.1f}"),
    count_form("s", lambda moment: f"{since(moment, seconds=1):.9e}"),
    count_form("ms", lambda moment: f"{since(moment, milliseconds=1):.0f}"),
    count_form("us", lambda moment: f"{since(moment, microseconds=1):.0f}"),
    count_form("ns", lambda moment: f"{since(moment, microseconds=1):.0f}000"),
    count_form("min", lambda m: f"{(m - MINUTES_2025) // timedelta(minutes=1)}", time_origin="2025-01-01T00:00:00"),
    count_form("h", lambda m: repr((m - MINUTES_2025) / timedelta(hours=1)), time_origin="2025-01-01T03:00:00+03:00"),
    count_form("d", lambda m: repr(since(m, days=1) + 25569), time_origin="1899-12-30"),
    Form("decimal comma", {"decimal_mark": ",", "separator": ";"}, number=lambda n: str(n).replace(".", ",")),
    Form("decimal comma, quoted", {"decimal_mark": ","}, number=lambda n: str(n).replace(".", ","), quote='"'),
    Form("thousands ,", {"thousands_mark": ","}, number=grouped, quote='"'),
    Form("thousands .", {"thousands_mark": ".", "decimal_mark": ","}, number=lambda n: grouped(n, ".", ","), quote='"'),
    Form("thousands '", {"thousands_mark": "'"}, number=lambda n: grouped(n, "’")),
    Form("thousands space", {"thousands_mark": " "}, number=lambda n: grouped(n, "\u202f")),
    Form("some thousands", {"thousands_mark": "'"}, number=lambda n: grouped(n, "'") if n > 9999 else str(n)),
    Form("dollar", {"currency": ["$"]}, number=lambda n: f"-${-n}" if n < 0 else f"${n}"),
    Form("dollar, sign after", {"currency": ["$"]}, number=lambda n: f"$ {n:+.2f}"),
    Form("EUR", {"currency": ["€", "eur"]}, number=lambda n: f"{n} EUR"),
    Form("US$ and $", {"currency": ["$", "US$"]}, number=lambda n: f"US${n}" if n > 100 else f"{n}$"),
    Form("exponents", number=lambda n: f"{n:.12e}"),
    Form("plus", number=lambda n: f" {n:+} "),
    Form("labels Y N", TWO_LABELS, label=lambda found: "NY"[found]),
    Form("labels y n with spaces", TWO_LABELS, label=lambda found: f" {'ny'[found]} "),
    Form(
        "labels in words",
        {"fraud_values": ["Fraud"], "genuine_values": ["not fraud"], "unknown_values": ["in review"]},
        label=lambda found: "FRAUD" if found else "Not Fraud",
        unknown="In review",
    ),
    Form("labels true false", label=lambda found: str(bool(found))),
    Form("labels 1.0 0.0", label=lambda found: f"{found}.0", unknown="NaN"),
    Form(
        "labels 1,0 0,0",
        {"decimal_mark": ",", "separator": ";"},
        label=lambda found: f"{found},0",
        number=lambda n: str(n).replace(".", ","),
    ),
    Form("labels 2", {"unknown_values": [2]}, unknown="2"),
    Form("labels -1 1", {"genuine_values": ["-1"]}, label=lambda found: str(2 * found - 1)),
    Form("labels inverted", {"fraud_values": [0], "genuine_values": [1]}, label=lambda found: str(1 - found)),
    Form("labels dash", unknown="-"),
    Form(
        "all at once",
        {
            "separator": ";",
            "encoding": "cp1251",
            "skip_lines": 1,
            "time_formats": ["%d.%m.%Y %H:%M"],
            "time_zone": "Europe/Moscow",
            "decimal_mark": ",",
            "thousands_mark": " ",
            "currency": ["руб."],
            "fraud_values": ["да"],
            "genuine_values": ["нет"],
        },
        time=lambda moment: local(moment, "Europe/Moscow").strftime("%d.%m.%Y %H:%M"),
        number=lambda n: f"{grouped(n, ' ', ',')} руб.",
        label=lambda found: "ДА" if found else "нет",
        before="Выгрузка\r\n",
        line_end="\r\n",
    ),
]


def read(spark: SparkSession, path: Path, columns: dict[str, Any], form: dict[str, Any]) -> tuple[list[Row], str]:
    data = settings.Data(columns=settings.Columns(**{**COLUMNS, **columns}), format=settings.Format(**form))
    found = read_transactions(spark, data, str(path), CLOCK)
    assert found.profile.rejected == {}
    return rows_of(found), fingerprint(found)


@pytest.fixture(scope="module")
def expected(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], str]:
    folder = tmp_path_factory.mktemp("base")
    pq.write_table(pa.Table.from_pylist(BASE), folder / "a.parquet")
    return read(spark, folder, {}, {})


@pytest.mark.parametrize("form", CSV_FORMS, ids=lambda form: form.name)
def test_every_form_of_csv_says_the_same(
    spark: SparkSession, tmp_path: Path, expected: tuple[list[Row], str], form: Form
) -> None:
    """Fails when a file in a usual foreign form cannot be read, or is read as other transactions."""
    form.write(tmp_path)
    assert read(spark, tmp_path, form.columns, form.format) == expected


def changed(**columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    table = pa.Table.from_pylist(BASE)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    return table


def of(name: str) -> list[Any]:
    return [row[name] for row in BASE]


def texts(name: str, text: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else text(value) for value in of(name)], pa.string())


def both_times(convert: Callable[[pa.ChunkedArray], pa.Array]) -> pa.Table:
    table = pa.Table.from_pylist(BASE)
    return changed(**{name: convert(table[name]) for name in ("transaction_time", "label_available_at")})


def naive(zone: str) -> dict[str, pa.Array]:
    return {
        name: pa.array([None if value is None else local(value, zone) for value in of(name)], pa.timestamp("us"))
        for name in ("transaction_time", "label_available_at")
    }


DATE = pc.strftime(pa.array(of("transaction_time")), "%Y-%m-%d")
CLOCK_TIMES = pa.array([moment.time() for moment in of("transaction_time")])
JOINED = {"transaction_time": ("day", "clock")}
PARQUET_FORMS: dict[str, tuple[pa.Table, dict[str, Any], dict[str, Any]]] = {
    "time text": (changed(transaction_time=texts("transaction_time", datetime.isoformat)), {}, {}),
    "time in a form of its own": (
        changed(
            **{
                name: texts(name, lambda m: m.strftime("%d.%m.%Y %H:%M"))
                for name in ("transaction_time", "label_available_at")
            }
        ),
        {},
        {"time_formats": ["%d.%m.%Y %H:%M"]},
    ),
    "time in seconds": (
        both_times(lambda c: c.cast(pa.timestamp("s", "UTC")).cast(pa.int64())),
        {},
        {"time_unit": "s"},
    ),
    "time in seconds, double": (
        both_times(lambda c: c.cast(pa.timestamp("s", "UTC")).cast(pa.int64()).cast(pa.float64())),
        {},
        {"time_unit": "s"},
    ),
    "time in milliseconds": (
        both_times(lambda c: c.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())),
        {},
        {"time_unit": "ms"},
    ),
    "time in digits": (
        both_times(lambda c: pc.strftime(c, "%Y%m%d%H%M").cast(pa.int64())),
        {},
        {"time_formats": ["%Y%m%d%H%M"]},
    ),
    "local timestamps": (changed(**naive("Europe/Berlin")), {}, {"time_zone": "Europe/Berlin"}),
    "timestamps with a zone": (
        both_times(lambda c: c.cast(pa.timestamp("ns", "Asia/Tokyo"))),
        {},
        {"time_zone": "Europe/Berlin"},
    ),
    "date and time": (changed(day=DATE.cast(pa.date32()), clock=CLOCK_TIMES), JOINED, {}),
    "date and time, with formats": (
        changed(
            day=DATE.cast(pa.date32()),
            clock=CLOCK_TIMES.cast(pa.time64("us")),
            label_available_at=texts("label_available_at", lambda m: m.strftime("%d.%m.%Y %H:%M")),
        ),
        JOINED,
        {"time_formats": ["%d.%m.%Y %H:%M"]},
    ),
    "midnight and text": (
        changed(day=DATE.cast(pa.date32()).cast(pa.timestamp("ms")), clock=CLOCK_TIMES.cast(pa.string())),
        JOINED,
        {},
    ),
    "year, month, day, hour": (
        changed(
            **{
                part: pa.array([getattr(moment, part) for moment in of("transaction_time")])
                for part in ("year", "month", "day")
            },
            clock=texts("transaction_time", lambda m: m.strftime("%H:%M")),
            label_available_at=texts("label_available_at", lambda m: m.strftime("%Y %m %d %H:%M")),
        ),
        {"transaction_time": ("year", "month", "day", "clock")},
        {"time_formats": ["%Y %m %d %H:%M"]},
    ),
    "amount text": (changed(amount=texts("amount", str), v=texts("v", str).dictionary_encode()), {}, {}),
    "amount with marks": (
        changed(
            amount=texts("amount", lambda n: grouped(n, ".", ",") + " €"), v=texts("v", lambda n: grouped(n, ".", ","))
        ),
        {},
        {"thousands_mark": ".", "decimal_mark": ",", "currency": ["€"]},
    ),
    "amount decimal": (changed(amount=pa.array([Decimal(str(n)) for n in of("amount")])), {}, {}),
    "label text": (changed(fraud=texts("fraud", str)), {}, {}),
    "label words": (
        changed(fraud=pa.array([{None: "?", 0: "N", 1: "Y"}[found] for found in of("fraud")]).dictionary_encode()),
        {},
        TWO_LABELS,
    ),
    "label boolean": (changed(fraud=pa.array([None if f is None else bool(f) for f in of("fraud")])), {}, {}),
    "label 2 for unknown": (
        changed(fraud=pa.array([2 if f is None else f for f in of("fraud")], pa.int8())),
        {},
        {"unknown_values": ["2"]},
    ),
    "label 2.0 for unknown": (
        changed(fraud=pa.array([2.0 if f is None else f for f in of("fraud")])),
        {},
        {"unknown_values": [2]},
    ),
    "label boolean, inverted": (
        changed(fraud=pa.array([None if f is None else not f for f in of("fraud")])),
        {},
        {"fraud_values": ["false"], "genuine_values": ["true"]},
    ),
    "large text": (
        changed(**{name: texts(name, str).cast(pa.large_string()) for name in ("transaction_id", "amount")}),
        {},
        {},
    ),
}


@pytest.mark.parametrize("form", PARQUET_FORMS)
def test_every_form_of_parquet_says_the_same(
    spark: SparkSession, tmp_path: Path, expected: tuple[list[Row], str], form: str
) -> None:
    """Fails when Parquet does not accept what CSV accepts, or is read as other transactions."""
    table, columns, written = PARQUET_FORMS[form]
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(spark, tmp_path, columns, written) == expected


def test_joined_columns_of_csv_are_one_time(
    spark: SparkSession, tmp_path: Path, expected: tuple[list[Row], str]
) -> None:
    """Fails when a date and a time column cannot be joined, or a missing time of day becomes midnight."""
    lines = ["id,day,clock,amount,fraud,customer_id,terminal_id,late day,late clock,v"]
    for row in BASE:
        late = row["label_available_at"]
        days = row["transaction_time"].strftime("%d/%m/%y"), late.strftime("%d/%m/%y") if late else ""
        clocks = row["transaction_time"].strftime("%I:%M %p"), late.strftime("%I:%M %p") if late else ""
        values = [row["transaction_id"], days[0], clocks[0], row["amount"], row["fraud"], row["customer_id"]]
        values += [row["terminal_id"], days[1], clocks[1], row["v"]]
        lines.append(",".join("" if value is None else str(value) for value in values))
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = {
        "transaction_id": "id",
        "transaction_time": ("day", "clock"),
        "label_available_at": ("late day", "late clock"),
    }
    assert read(spark, tmp_path, columns, {"time_formats": ["%d/%m/%y %I:%M %p"]}) == expected


def test_a_label_table_has_the_same_forms(spark: SparkSession, tmp_path: Path, expected: tuple[list[Row], str]) -> None:
    """Fails when labels in a table of their own are read in another form than the transactions."""
    pq.write_table(pa.Table.from_pylist(BASE).drop_columns(["fraud", "label_available_at"]), tmp_path / "a.parquet")
    lines = ["transaction_id;fraud;day;clock"]
    for row in BASE:
        if row["fraud"] is not None:
            lines.append(f"{row['transaction_id']};{'NY'[row['fraud']]};{row['label_available_at']:%d.%m.%y;%H:%M}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-16")
    labels = settings.LabelTable(path=str(tmp_path / "labels.csv"), label_available_at=("day", "clock"))
    columns = settings.Columns(fraud=None, label_available_at=None, extra_numeric=("v",))
    form = {"separator": ";", "encoding": "utf-16", "time_formats": ["%d.%m.%y %H:%M"], **TWO_LABELS}
    data = settings.Data(columns=columns, labels=labels, format=settings.Format(**form))
    found = read_transactions(spark, data, str(tmp_path / "a.parquet"), CLOCK)
    keep = [name for name in NAMES if name != "label_history"]
    assert [{name: row[name] for name in keep} for row in rows_of(found)] == expected[0]


def test_a_date_column_is_midnight_of_its_zone(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when dates of Parquet cannot be used, or are of another day."""
    pq.write_table(changed(transaction_time=DATE.cast(pa.date32())), tmp_path / "a.parquet")
    rows, _ = read(spark, tmp_path, {"label_available_at": None}, {"time_zone": "Europe/Berlin"})
    assert {row["transaction_time"].hour for row in rows} == {22, 23}


def test_text_files_beside_data_are_notes(spark: SparkSession, tmp_path: Path, expected: tuple[list[Row], str]) -> None:
    """Fails when a README.txt in the folder of the data stops a run."""
    Form("plain").write(tmp_path)
    (tmp_path / "README.txt").write_text("Export of today\n")
    assert read(spark, tmp_path, {}, {}) == expected
