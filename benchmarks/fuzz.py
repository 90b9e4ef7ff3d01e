"""The readers and the settings loader under hypothesis: any file ends in a table or in an error that says what to do.

    python -m benchmarks.fuzz --minutes 30

Each target takes generated or damaged content in turn, for its share of the minutes. What must not happen: another
exception than those of `fraud_detection.errors`, or a file that takes longer than `--seconds`. It prints a table and
exits with 1 where something did happen; the example that hypothesis shrank is written beside it with `--output`.
"""

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from fraud_detection.errors import DataError, FraudDetectionError
from fraud_detection.initialization.initialize import examine
from fraud_detection.settings import Columns, Data, Format, load_settings
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.files import find_files, first_unreadable
from fraud_detection.transactions.table import read_through

EXAMPLES = 200
"""Of one round of a target; rounds differ by their seed."""

_GOOD = b"id,ts,amount,fraud,card\n" + b"".join(
    b"%d,2025-01-%02d 10:%02d:00,%d.50,%d,%d\n" % (row, 1 + row % 28, row % 60, row, row % 7 == 0, row % 5)
    for row in range(60)
)
_DATA = Data(
    columns=Columns(transaction_id="id", transaction_time="ts", amount="amount", customer_id="card", terminal_id=None)
)
_SEPARATORS = (",", ";", "\t", "|")
_ENCODINGS = ("utf-8", "latin-1", "utf-16", "utf-16-le", "cp1251", "utf-8-sig")
_CELL = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.sampled_from(
        ["", "0", "1", "Y", "N", "fraud", '"', "'", "\\N", "-", "$1,234.56", "1.234,56", "31/12/2025 10:00"]
    ),
)
_FIRST = datetime(2025, 1, 1, 10, tzinfo=UTC)
_TIME_FORMS: tuple[Callable[[datetime], str], ...] = (
    lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
    lambda moment: f"{moment:%d.%m.%Y %H:%M}",
    lambda moment: f"{moment:%m/%d/%Y %I:%M %p}",
    lambda moment: f"{moment.timestamp():.0f}",
    datetime.isoformat,
)
_LABELS = (("0", "1"), ("N", "Y"), ("genuine", "fraud"), ("False", "True"), ("", "1"))
_VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=20),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.binary(): st.binary(max_size=9),
    pa.timestamp("us"): st.integers(-(2**62), 2**62),
    pa.timestamp("ns", "UTC"): st.integers(-(2**62), 2**62),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.list_(pa.int8()): st.lists(st.integers(-128, 127), max_size=2),
}


@dataclass
class Outcome:
    """What came of the inputs of one target."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A good file with some bytes replaced, removed or inserted, and perhaps cut."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        changed[place : place + draw(st.integers(0, 12))] = draw(st.binary(max_size=12))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV file of any cells in one of several forms."""
    separator, encoding = draw(st.sampled_from(_SEPARATORS)), draw(st.sampled_from(_ENCODINGS))
    header = separator.join(("id", "ts", "amount", "fraud", "card"))
    rows = draw(st.lists(st.lists(_CELL, min_size=3, max_size=6), max_size=30))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join([header, *(separator.join(row) for row in rows)]).encode(encoding, "replace")


@st.composite
def sound_tables(draw: st.DrawFn) -> bytes:
    """A CSV file that `init` can describe, in one of several forms, but for a few odd cells, rows or blank lines."""
    separator, end = draw(st.sampled_from(_SEPARATORS)), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(("utf-8", "latin-1", "cp1251", "utf-8-sig", "utf-16")))
    form, labels = draw(st.sampled_from(_TIME_FORMS)), draw(st.sampled_from(_LABELS))
    amount = draw(st.sampled_from(("{:.2f}", "${:,.2f}", "{:.0f}")))
    step = timedelta(minutes=draw(st.integers(1, 2000)))
    rows = [
        [str(row), form(_FIRST + row * step), amount.format(row * 37 % 997 + 0.5), labels[row % 7 == 0], f"c{row % 9}"]
        for row in range(draw(st.integers(60, 120)))
    ]
    for _ in range(draw(st.integers(0, 6))):
        row = draw(st.integers(0, len(rows) - 1))
        rows[row][draw(st.integers(0, len(rows[row]) - 1))] = draw(_CELL)
    if draw(st.booleans()):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.lists(_CELL, max_size=8)))
    header = draw(st.sampled_from((["id", "ts", "amount", "fraud", "card"], ["x", "When", "Amt", "is_fraud", "card"])))
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
    return end.join(separator.join(row) for row in [header, *quoted]).encode(encoding, "replace")


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """A Parquet file with the mapped columns in any types."""
    rows = draw(st.integers(0, 8))
    columns = {}
    for name in ("id", "ts", "amount", "fraud", "card"):
        kind = draw(st.sampled_from(list(_VALUES)))
        columns[name] = pa.array(draw(st.lists(st.none() | _VALUES[kind], min_size=rows, max_size=rows)), kind)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


_FORMATS = st.sampled_from(
    [
        Format(),
        Format(separator=";", decimal_mark=",", thousands_mark="."),
        Format(encoding="utf-16"),
        Format(time_formats=("%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p")),
        Format(time_unit="s", currency=("$",), fraud_values=("Y",), genuine_values=("N",)),
        Format(encoding="latin-1", quote=None, skip_lines=1, time_zone="Europe/Berlin"),
    ]
)


def read(path: Path, form: Format) -> None:
    """All rows of a file, as a run reads them before its engine."""
    fields = transaction_fields(_DATA.columns)
    files = find_files(str(path), fields, form)
    problem = first_unreadable(files, lambda file: read_through(file, fields))
    if problem is not None:
        raise DataError(problem)


def _read_csv(folder: Path, content: bytes, form: Format) -> None:
    (folder / "some.csv").write_bytes(content)
    read(folder / "some.csv", form)


def _read_parquet(folder: Path, content: bytes, form: Format) -> None:
    (folder / "some.parquet").write_bytes(content)
    read(folder / "some.parquet", form)


def _examine(folder: Path, content: bytes, _: Format) -> None:
    (folder / "some.csv").write_bytes(content)
    examine(str(folder / "some.csv"), {}).settings()


def _load_settings(folder: Path, content: bytes, _: Format) -> None:
    (folder / "some.yaml").write_bytes(content)
    load_settings(folder / "some.yaml")


def targets() -> dict[str, tuple[st.SearchStrategy[bytes], Callable[[Path, bytes, Format], None]]]:
    """By name: what is generated, and what reads it."""
    settings = Path(__file__).parents[1].joinpath("conf/retraining.yaml").read_bytes()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1], "ts": ["2025-01-01"], "amount": [1.0], "fraud": [0], "card": ["a"]}), sink)
    good_parquet = bytes(sink.getvalue())
    return {
        "CSV, any bytes": (st.binary(max_size=600), _read_csv),
        "CSV, damaged": (damaged(_GOOD), _read_csv),
        "CSV, any cells": (tables(), _read_csv),
        "Parquet, damaged": (damaged(good_parquet), _read_parquet),
        "Parquet, any types": (parquet_files(), _read_parquet),
        "init, damaged": (damaged(_GOOD), _examine),
        "init, odd cells": (sound_tables(), _examine),
        "settings, damaged": (damaged(settings), _load_settings),
        "settings, any text": (st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")), _load_settings),
    }


def run_round(
    content: st.SearchStrategy[bytes], work: Callable[[Path, bytes, Format], None], seed: int, seconds: float
) -> Outcome:
    """One round of examples of one target."""
    found = Outcome()
    options = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    with tempfile.TemporaryDirectory() as folder:

        @hypothesis.seed(seed)
        @options
        @given(content, _FORMATS)
        def examples(given_content: bytes, form: Format) -> None:
            begin = monotonic()
            try:
                work(Path(folder), given_content, form)
                found.ends["read"] += 1
            except FraudDetectionError as error:
                found.ends[type(error).__name__] += 1
            took = monotonic() - begin
            found.slowest = max(found.slowest, took)
            if took > seconds:
                raise TimeoutError(f"took {took:.1f} s: {given_content!r} with {form!r}")

        try:
            examples()
        except Exception:  # noqa: BLE001  (whatever it is, it is what is looked for)
            found.failures.append(traceback.format_exc())
    return found


def fuzz(minutes: float, seconds: float) -> dict[str, Outcome]:
    """All targets in turn until the minutes are over."""
    found = {name: Outcome() for name in targets()}
    printed = Outcome()
    sys.unraisablehook = lambda ignored: printed.failures.append(repr(ignored.exc_value))
    end, seed = monotonic() + 60 * minutes, 0
    while monotonic() < end:
        for name, (content, work) in targets().items():
            if monotonic() >= end or found[name].failures:
                continue
            one = run_round(content, work, seed, seconds)
            found[name].ends += one.ends
            found[name].slowest = max(found[name].slowest, one.slowest)
            found[name].failures += one.failures
        seed += 1
        if all(outcome.failures for outcome in found.values()):
            break
    return found | ({"stack traces that Python printed": printed} if printed.failures else {})


def table(found: dict[str, Outcome]) -> str:
    """The outcomes as Markdown."""
    lines = ["| target | inputs | read | refused | slowest, s | failures |", "|---|---:|---:|---:|---:|---:|"]
    for name, outcome in found.items():
        read_, total = outcome.ends["read"], outcome.ends.total()
        lines.append(
            f"| {name} | {total:,} | {read_:,} | {total - read_:,} | {outcome.slowest:.2f} | {len(outcome.failures)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fuzz, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="that one file may take")
    parser.add_argument("--output", type=Path, help="also write the table, and failures, to this file")
    given_options = parser.parse_args()
    found = fuzz(given_options.minutes, given_options.seconds)
    failures = [failure for outcome in found.values() for failure in outcome.failures]
    print(table(found))
    print("\n".join(failures), file=sys.stderr)
    if given_options.output is not None:
        shown = "\n\n".join(f"```text\n{failure}```" for failure in failures)
        given_options.output.write_text(f"{table(found)}\n\n{shown}".rstrip() + "\n", encoding="utf-8")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
