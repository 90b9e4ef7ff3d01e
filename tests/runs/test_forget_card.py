"""`forget-card` erases a card from quarantine and stores, says what it did, and never names the card."""

import io
import json
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_detection import settings
from fraud_detection.cli import main
from fraud_detection.outputs import FORGOTTEN, alerts_file, quarantine_file, scores_file, store_folder
from fraud_detection.runs.forget_card import Places, erase_card, find_card
from fraud_detection.storage import Storage, StoredObject, open_folder
from fraud_detection.transactions.forgotten import read_forgotten
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.stored_reader import store_inputs

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CARD = "4711000199"
HEADER = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD"
SETTINGS = """
data:
  columns:
    transaction_id: TRANSACTION_ID
    transaction_time: TX_DATETIME
    amount: TX_AMOUNT
    fraud: TX_FRAUD
    customer_id: CUSTOMER_ID
    terminal_id: TERMINAL_ID
"""
REJECTED = (
    "reason,CUSTOMER_ID,TX_AMOUNT,broken_line\n"
    f"amount,{CARD},x,\n"
    "amount,8,=1,\n"
    f'broken,,,"1;{CARD};2"\n'
    f'broken,,,"1;{CARD}5;2"\n'
)


def prepare(folder: Path, *, text: bool = False) -> None:
    """Settings, an input, its store, and a quarantine."""
    prefix = "c" if text else ""
    (folder / "in").mkdir()
    write(folder / "in", [f"{n},2026-01-0{n} 10:00:00,{prefix}{CARD if n % 2 else 8},1,5.0,0" for n in range(1, 7)])
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    output = open_folder(str(folder / "out"))
    scores = pa.table({"transaction_id": ["1", "2"], "customer_id": [prefix + CARD, "8"], "probability": [0.5, 0.25]})
    content = io.BytesIO()
    pyarrow.parquet.write_table(scores, content)
    output.write_atomic(scores_file("m", NOW.date(), 1, "t"), content.getvalue())
    output.write_atomic(alerts_file("m", NOW.date()), f"transaction_id,customer_id\n1,{prefix}{CARD}\n".encode())
    output.write_atomic(quarantine_file(NOW), REJECTED.replace(CARD, prefix + CARD).encode())
    read(folder)


def write(folder: Path, rows: list[str]) -> None:
    """The input, a Parquet file, in which ids without a letter are numbers."""
    table = pyarrow.csv.read_csv(io.BytesIO("\n".join([HEADER, *rows, ""]).encode()))
    pyarrow.parquet.write_table(table, folder / "a.parquet")


def read(folder: Path) -> int:
    """What a run reads: the number of rows in the store."""
    data, output = settings.load_settings(folder / "settings.yaml").data, open_folder(str(folder / "out"))
    sources = store_inputs(data, str(folder / "in"))
    store = JoinedStore(output, store_folder(sources[0].key), sources, lambda: NOW, partial(read_forgotten, output))
    return sum(day.rows for day in store.update().snapshot.manifest.days)


def command(folder: Path, *words: str, card: str = CARD, reason: str = "a request") -> Result:
    options = ["--config", str(folder / "settings.yaml"), "--output", str(folder / "out"), "--reason", reason]
    return CliRunner().invoke(main, ["forget-card", "-", *options, *words], input=f"{card}\n")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_erased_without_yes(tmp_path: Path) -> None:
    """Fails when a look at what there is erases it, or does not say how much there is and in which input."""
    prepare(tmp_path)
    before = files(tmp_path)
    found = command(tmp_path, "--json")
    assert files(tmp_path) == before
    told = json.loads(found.stdout)
    assert (told["erased"], told["rows"], told["quarantined_rows"]) == (False, 3, 2)
    assert told["input_files"] == [str(tmp_path / "in" / "a.parquet")]
    assert CARD not in found.output


@pytest.mark.parametrize("text", [False, True])
def test_a_card_is_erased_and_stays_out(tmp_path: Path, text: bool) -> None:
    """Fails when a row of a card stays in store or quarantine, another card's goes, or the record has the id."""
    prepare(tmp_path, text=text)
    card = f"c{CARD}" if text else f"00{CARD}"
    done = command(tmp_path, "--yes", card=card)
    assert done.exit_code == 0, done.output
    assert CARD not in done.output
    rejected = (tmp_path / "out" / quarantine_file(NOW)).read_bytes()
    assert pyarrow.csv.read_csv(io.BytesIO(rejected))["reason"].to_pylist() == ["amount", "broken"]
    scores = pyarrow.parquet.read_table(tmp_path / "out" / scores_file("m", NOW.date(), 1, "t"))
    assert scores["customer_id"].to_pylist() == ["8"]
    assert CARD not in (tmp_path / "out" / alerts_file("m", NOW.date())).read_text()
    [record] = (tmp_path / "out" / FORGOTTEN).glob("*.json")
    assert CARD not in record.read_text() + record.name
    told = json.loads(record.read_text())
    assert (told["rows"], told["quarantined_rows"], told["reason"]) == (3, 2, "a request")
    assert read(tmp_path) == 3
    prefix = "c" if text else ""
    write(tmp_path / "in", [f"{n},2026-01-09 10:00:00,{prefix}{CARD if n < 9 else 8},1,5.0,0" for n in range(4, 11)])
    assert read(tmp_path) == 2
    again = command(tmp_path, "--yes", card=card)
    assert again.exit_code == 0, again.output
    assert json.loads(record.read_text()) == told


def test_a_forgotten_card_has_no_features(tmp_path: Path) -> None:
    """Fails when what was computed from the rows of an erased card stays beside the store."""
    prepare(tmp_path)
    [store] = (tmp_path / "out" / "_store").iterdir()
    features = store / "features" / "key"
    for name in ("manifest/00000001.json.gz", "days/2026-01-01/a.parquet", "days/2026-01-02/of-a-killed-run.parquet"):
        (features / name).parent.mkdir(parents=True, exist_ok=True)
        (features / name).write_bytes(b"features")
    assert command(tmp_path).exit_code == 0
    assert len([path for path in features.rglob("*") if path.is_file()]) == 3
    done = command(tmp_path, "--yes")
    assert done.exit_code == 0, done.output
    assert "all features are discarded" in done.output
    assert not [path for path in features.rglob("*") if path.is_file()]


@pytest.mark.parametrize("card", ["123456", "Q7qx"])
def test_an_unknown_card_is_refused_without_its_id(tmp_path: Path, card: str) -> None:
    """Fails when a mistyped id is recorded as forgotten, or shown in a log."""
    prepare(tmp_path)
    before = files(tmp_path)
    found = command(tmp_path, "--yes", card=card)
    assert (found.exit_code, files(tmp_path)) == (2, before)
    assert card not in found.output
    assert "check the id" in found.output


def test_settings_without_cards_say_what_to_give(tmp_path: Path) -> None:
    """Fails when settings that do not map the card find no row, as if there were none."""
    prepare(tmp_path)
    (tmp_path / "settings.yaml").write_text(SETTINGS.replace("CUSTOMER_ID", "null"), encoding="utf-8")
    found = command(tmp_path, "--yes")
    assert found.exit_code == 2
    assert "data.columns.customer_id is not set" in found.output


def test_a_reason_with_the_id_is_refused(tmp_path: Path) -> None:
    """Fails when the record that must not have the id has it in its reason."""
    prepare(tmp_path)
    found = command(tmp_path, "--yes", reason=f"request of {CARD}")
    assert found.exit_code == 2
    assert CARD not in found.output


class KilledError(Exception):
    """Stands for the death of the process."""


class Killing(Storage):
    """Dies before a step that writes."""

    def __init__(self, inner: Storage, steps: int) -> None:
        self._inner, self._steps = inner, steps

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise KilledError

    def url(self, name: str) -> str:
        return self._inner.url(name)

    def write_atomic(self, name: str, content: bytes) -> str:
        self._step()
        return self._inner.write_atomic(name, content)

    def write_once(self, name: str, content: bytes) -> bool:
        self._step()
        return self._inner.write_once(name, content)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return self._inner.objects(prefix)

    def read(self, name: str) -> bytes | None:
        return self._inner.read(name)

    def names(self, prefix: str = "") -> list[str]:
        return self._inner.names(prefix)

    def discard(self, name: str) -> None:
        self._step()
        self._inner.discard(name)


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 14), st.booleans())
def test_a_kill_at_any_step_is_finished_by_the_same_command(step: int, run: bool) -> None:
    """Fails when a command that was killed half-way cannot be finished, or a run between brings the card back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        output = open_folder(str(folder / "out"))
        killing = Killing(output, step)
        search = find_card(Places(killing, (killing,), ("CUSTOMER_ID",)), CARD)
        with suppress(KilledError):
            erase_card(search, "r", "w", NOW, lambda _: None)
        if run:
            assert read(folder) == (3 if read_forgotten(output).hashes else 6)
        done = command(folder, "--yes")
        assert done.exit_code == 0, done.output
        assert read(folder) == 3
        assert json.loads(command(folder, "--json").stdout)["old_files"] == 0
        rejected = pyarrow.csv.read_csv(io.BytesIO(output.read(quarantine_file(NOW)) or b""))
        assert rejected["reason"].to_pylist() == ["amount", "broken"]
