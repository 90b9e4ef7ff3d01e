"""Readers end in a table or in an error that names the file, whatever the bytes; they neither crash nor hang."""

import bz2
import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_detection.errors import DataError
from fraud_detection.settings import Format
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.files import find_files, first_unreadable
from fraud_detection.transactions.table import read_through

FIELDS = (
    Field("transaction_id", "id", Kind.ID),
    Field("transaction_time", "day + clock", Kind.TIME, ("day", "clock")),
    Field("amount", "a", Kind.AMOUNT),
    Field("fraud", "f", Kind.LABEL),
    Field("label_available_at", "l", Kind.TIME),
    Field("v", "v", Kind.NUMBER),
)
HEADER = b"id,day,clock,a,f,l,v"
QUIET = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))

TOKENS = [b"\n", b"\r", b"\r\n", b",", b";", b'"', b"'", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"1", b"-", b" "]
TOKENS += [b"2025-01-01", b"12:00", b"$1,5", b"Y", b"nan", b"1e999", b"9" * 40, HEADER, HEADER + b"\n", b"\xed\xa0\x80"]
ENCODINGS = ["utf-8", "utf-16", "utf-16-le", "utf-7", "latin-1", "cp037", "shift_jis", "utf-8-sig"]
pieces = st.sampled_from(TOKENS)
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(pieces, max_size=30).map(b"".join),
    st.lists(pieces, max_size=30).map(lambda found: HEADER + b"\n" + b"".join(found)),
)
forms = st.fixed_dictionaries(
    {},
    optional={
        "separator": st.sampled_from([",", ";", "\t", "\x01"]),
        "encoding": st.sampled_from(ENCODINGS),
        "quote": st.sampled_from(['"', "'", None]),
        "skip_lines": st.integers(0, 3),
        "time_formats": st.sampled_from([[], ["%d.%m.%Y %H:%M"], ["%Y-%j %z"]]),
        "time_unit": st.sampled_from([None, "s", "ns", "d"]),
        "time_origin": st.sampled_from(["0001-01-01", "9999-12-31T23:00:00-11:00"]),
        "time_zone": st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
        "decimal_mark": st.sampled_from([".", ","]),
        "thousands_mark": st.sampled_from([None, "'", "^", "]", "\\"]),
        "currency": st.sampled_from([[], ["$", "[", "\\"]]),
        "fraud_values": st.sampled_from([[], ["Y", "(", "\\"]]),
    },
)


def read_or_refuse(path: Path, form: dict[str, Any]) -> None:
    """Read a file as a run does: a table, or a message that names it."""
    try:
        written = Format.model_validate(form)
    except ValidationError:
        return
    try:
        files = find_files(str(path), FIELDS, written)
    except DataError as error:
        assert str(path) in str(error)
        return
    problem = first_unreadable(files, lambda file: read_through(file, FIELDS))
    assert problem is None or problem.startswith(str(path))


@QUIET
@given(contents, forms, st.sampled_from(["a.csv", "a.csv.gz", "a.txt.bz2", "a.tsv.zst", "a.parquet"]))
def test_any_bytes_end_in_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, form: dict[str, Any], name: str
) -> None:
    """Fails when a file of any bytes ends in a stack trace instead of a message that names it."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    read_or_refuse(path, form)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@QUIET
@given(contents, forms, st.sampled_from(sorted(PACKED)), st.integers(0, 40))
def test_packed_files_that_are_cut_end_in_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, form: dict[str, Any], end: str, cut: int
) -> None:
    """Fails when a compressed file that was cut off ends in a stack trace or is read without end."""
    packed = PACKED[end](content)
    path = tmp_path_factory.getbasetemp() / f"packed.csv.{end}"
    path.write_bytes(packed[: max(len(packed) - cut, 0)])
    read_or_refuse(path, form)


cells = st.one_of(
    st.none(),
    st.sampled_from(["2025-01-01", "12:00", "1,5", "$7", "Y", "x", "", "-", "\0", "9" * 40, "1e999", "0001-01-01"]),
)
columns = st.one_of(
    st.lists(cells, min_size=3, max_size=3).map(lambda found: pa.array(found, pa.string())),
    st.lists(cells, min_size=3, max_size=3).map(lambda found: pa.array(found, pa.string()).dictionary_encode()),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3).map(lambda found: pa.array(found, pa.int64())),
    st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3).map(lambda found: pa.array(found, pa.uint64())),
    st.lists(st.floats(), min_size=3, max_size=3).map(lambda found: pa.array(found, pa.float64())),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3).flatmap(
        lambda found: st.sampled_from(
            [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("s", "UTC"), pa.timestamp("ms", "Asia/Tokyo")]
        ).map(lambda kind: pa.array(found, kind))
    ),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3).map(lambda found: pa.array(found, pa.date32())),
    st.lists(st.integers(0, 86_399), min_size=3, max_size=3).map(lambda found: pa.array(found, pa.time32("s"))),
    st.lists(st.booleans(), min_size=3, max_size=3).map(pa.array),
    st.just(pa.nulls(3)),
    st.just(pa.array([b"\xff", None, b"x"])),
    st.just(pa.array([[1], None, []])),
    st.lists(st.decimals(-(10**20), 10**20, places=2), min_size=3, max_size=3).map(
        lambda found: pa.array(found, pa.decimal256(40, 2))
    ),
)


@QUIET
@given(st.lists(columns, min_size=7, max_size=7), forms)
def test_parquet_columns_of_any_type_end_in_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, values: list[pa.Array], form: dict[str, Any]
) -> None:
    """Fails when a Parquet column of an odd type, or with a value out of range, ends in a stack trace."""
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    pq.write_table(pa.table(dict(zip(HEADER.decode().split(","), values, strict=True))), path)
    read_or_refuse(path, form)


def test_a_broken_line_in_another_encoding_prints_no_stack_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a log shows the trace of PyArrow's own error beside the error that the reader gives."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    path = tmp_path / "some.csv"
    path.write_bytes(b"amount\n1\n\xa62,3\n4\n")
    fields = (Field("amount", "amount", Kind.AMOUNT),)
    files = find_files(str(path), fields, Format())
    problem = first_unreadable(files, lambda file: read_through(file, fields))
    assert problem is not None
    assert printed == []
