"""CSV text in blocks of whole lines."""

import io
import re
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_detection.settings import Format
from fraud_detection.transactions import line_blocks as module
from fraud_detection.transactions.columns import Field, Kind
from fraud_detection.transactions.csv import csv_batches
from fraud_detection.transactions.line_blocks import line_blocks, parsed

_PARSE = pyarrow.csv.ParseOptions(invalid_row_handler=lambda _: "skip")
_CONVERT = pyarrow.csv.ConvertOptions(column_types={"a": pyarrow.string(), "b": pyarrow.string()})
_END = st.sampled_from(["\n", "\r\n", "\r"])
_LINES = st.lists(st.from_regex(r"[a-c]{0,5},[a-c]{0,9}|[a-c]{1,4}|", fullmatch=True), max_size=30)


@pytest.fixture
def blocks_of_16_bytes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_BLOCK", 16)
    yield


def _rows(text: bytes) -> list[tuple[str, str]]:
    batches = parsed(line_blocks(lambda: io.BytesIO(text)), _PARSE, _CONVERT)
    return [(row["a"], row["b"]) for batch in batches for row in batch.to_pylist()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_LINES, _END, st.booleans())
@pytest.mark.usefixtures("blocks_of_16_bytes")
def test_blocks_are_whole_lines_and_lose_none(lines: list[str], end: str, ended: bool) -> None:
    """Fails when a row at the border of two blocks is lost, or is read as two."""
    text = (end.join(["a,b", *lines]) + end * ended).encode()
    blocks = list(line_blocks(lambda: io.BytesIO(text)))
    assert b"".join(blocks) == text
    assert all(re.search(rb"[\r\n]$", block) for block in blocks[:-1])
    assert _rows(text) == [tuple(line.split(",")) for line in lines if line.count(",") == 1]


@pytest.mark.usefixtures("blocks_of_16_bytes")
def test_a_quote_that_is_not_closed_is_refused_in_any_block() -> None:
    """Fails when one quote in a file lets thousands of rows pass for a single value."""
    sound = b'a,b\n"1,5",2\n' + b"3,4\n" * 9
    assert len(_rows(sound)) == 10
    with pytest.raises(pyarrow.ArrowInvalid, match="a quote is not closed"):
        _rows(sound.replace(b"3,4\n3,4\n", b'"3,4\n3,4\n', 1))


def test_a_file_is_read_by_the_caller_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a command that reads a part of a large file is aborted by a read in the background."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 3_000_000)
    readers: list[int] = []

    class Recorded(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            readers.append(threading.get_ident())
            return super().read(size) or b""

    monkeypatch.setattr("fraud_detection.transactions.csv.open_csv_text", lambda path, _: Recorded(path))
    rows = csv_batches(str(path), (Field("amount", "a", Kind.NUMBER),), Format(), with_source=False)
    assert isinstance(rows, Generator)
    next(rows)
    rows.close()
    assert set(readers) == {threading.get_ident()}
    assert len(readers) == 1
