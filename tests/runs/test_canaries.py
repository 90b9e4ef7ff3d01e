"""Unmistakable values go through a whole run, and none of them appears outside the quarantine."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import AS_OF, SETTINGS

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("fraud-detection"))

ID = 773_162_049_0000
CARD = "CANARYCARD4929118847"
TERMINAL = "CANARYTERMINAL66"
CATEGORY = "CANARYCATEGORY"
GOOD_AMOUNT, BAD_AMOUNT = 73194.86, 83917.44
LATE = datetime.fromisoformat("2093-11-17T11:00:00+00:00")
EARLY_LABEL = datetime.fromisoformat("2019-07-23T11:00:00+00:00")
TIME, NUMBER, LABEL, LINE = "31.12.2025 23:57:41", "CANARYNUMBER", "CANARY-LABEL-VALUE-9", "CANARYLINE,582046611"
LABEL_LINE = "CANARYLABELLINE"

EVERYWHERE = ("773162049", "4929118847", "CANARY", "73194.86", "83917.44", "2093-11-17")
"""What every case has in it."""
SOMEWHERE = ("31.12.2025", "23:57:41", "582046611", "2019-07-23")
"""What only some have: text that Parquet's types refuse, labels that a label table takes from the transactions."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One run of the job."""

    engine: str
    form: str
    exit_code: int
    label_table: bool

    def __str__(self) -> str:
        return f"{self.engine}-{self.form}-{self.exit_code}{'-labels' if self.label_table else ''}"


CASES = [
    Case(engine, form, exit_code, label_table)
    for engine in ("sail", "spark")
    for form, exit_code, label_table in (
        ("csv", 65, False),
        ("csv", 0, True),
        ("parquet", 65, True),
        ("parquet", 0, False),
    )
]


@pytest.fixture(scope="module")
def good(transactions: Path) -> pa.Table:
    """The small world with text ids, an extra number and category, and a few transactions with unmistakable values."""
    rows = pq.read_table(transactions)
    for name in ("customer_id", "terminal_id"):
        rows = _with(rows, name, rows[name].cast("string"))
    rows = rows.append_column("v", pa.array(np.arange(len(rows)) % 7, pa.float64()))
    rows = rows.append_column("channel", pc.if_else(pc.greater(rows["amount"], 40), "web", "shop"))
    few = pa.array(np.arange(len(rows)) % 4001 == 0)  # 8 of them in the training window
    rows = _with(rows, "transaction_id", pc.if_else(few, pc.add(rows["transaction_id"], ID), rows["transaction_id"]))
    for name, value in {"amount": GOOD_AMOUNT, "customer_id": CARD, "channel": CATEGORY}.items():
        rows = _with(rows, name, pc.if_else(few, value, rows[name]))
    return rows


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def _damage(case: Case) -> Iterator[Row]:
    """Make rows bad, each kind once; as text where the files are text."""
    yield {"amount": -BAD_AMOUNT}
    yield {"transaction_time": LATE}
    yield {"customer_id": None, "terminal_id": TERMINAL}
    yield {"v": float("inf")}
    if not case.label_table:
        yield {"label_available_at": EARLY_LABEL}
        yield {"fraud": 93}
    if case.form == "csv":
        yield {"amount": f"${BAD_AMOUNT}"}
        yield {"transaction_time": TIME}
        yield {"v": NUMBER}
        if not case.label_table:
            yield {"fraud": LABEL}


def _bad(good: pa.Table, case: Case) -> list[Row]:
    """A few bad rows, or more than a run accepts, and two rows with one id."""
    copied = good.slice(len(good) // 2, 1).to_pylist()[0] | {"customer_id": CARD, "channel": CATEGORY}
    changes = [change for _ in range(400 if case.exit_code else 1) for change in _damage(case)]
    bad = [copied | {"transaction_id": ID + 1 + number} | change for number, change in enumerate(changes)]
    return [*bad, *(copied | {"transaction_id": ID + 9999} for _ in range(2))]


def _write(folder: Path, form: str, rows: pa.Table, bad: list[Row], line: str) -> None:
    folder.mkdir()
    bad = [{name: row[name] for name in rows.column_names} for row in bad]
    if form == "parquet":
        pq.write_table(pa.concat_tables([rows, pa.Table.from_pylist(bad, rows.schema)]), folder / "a.parquet")
        return
    pyarrow.csv.write_csv(rows, folder / "a.csv")
    lines = [",".join("" if value is None else f'"{value}"' for value in row.values()) for row in bad]
    with (folder / "a.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, line, ""]))


def _write_labels(folder: Path, form: str, rows: pa.Table) -> None:
    """A label per transaction; one is invalid, one too early, one unmatched, and one line is malformed."""
    labels = rows.select(["transaction_id", "fraud", "label_available_at"])
    one, other = (labels.slice(place, 1).to_pylist()[0] for place in (4001, 2 * 4001))
    bad = [one | {"label_available_at": EARLY_LABEL}, {**one, "transaction_id": ID + 9_998}]
    bad += [other | {"fraud": LABEL if form == "csv" else 93, "label_available_at": AS_OF + timedelta(days=1)}]
    kept = pc.invert(pc.is_in(labels["transaction_id"], pa.array([one["transaction_id"], other["transaction_id"]])))
    _write(folder, form, labels.filter(kept), bad, LABEL_LINE)


@dataclass(frozen=True)
class Ran:
    """The output and the files of a run."""

    exit_code: int
    printed: str
    output: Path


IN_CI = {("sail", "csv", 65), ("sail", "parquet", 0), ("spark", "csv", 0), ("spark", "parquet", 65)}
"""Each pair of engine, form, exit code and label table is among them; the other cases are a proof."""


@pytest.fixture(
    params=[
        pytest.param(case, marks=[] if (case.engine, case.form, case.exit_code) in IN_CI else [pytest.mark.proof])
        for case in CASES
    ],
    ids=str,
)
def ran(request: pytest.FixtureRequest, good: pa.Table, tmp_path: Path) -> Ran:
    """The installed command, so that the engine's own output is seen too."""
    case: Case = request.param
    columns: dict[str, Any] = {"extra_numeric": ["v"], "extra_categorical": ["channel"]}
    data: dict[str, Any] = {"columns": columns, "missing_cards": "reject"}  # or a row without a card were a good one
    rows = good
    if case.label_table:
        _write_labels(tmp_path / "labels", case.form, good)
        columns |= {"fraud": None, "label_available_at": None}
        data["labels"] = {"path": str(tmp_path / "labels")}
        rows = rows.drop_columns(["fraud", "label_available_at"])
    else:
        columns["label_available_at"] = "label_available_at"
    _write(tmp_path / "in", case.form, rows, _bad(good, case), LINE)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({**SETTINGS, "data": data}), encoding="utf-8")
    options = {
        "--config": tmp_path / "settings.yaml",
        "--input": tmp_path / "in",
        "--output": tmp_path / "output",
        "--as-of": AS_OF.isoformat(),
        "--engine": case.engine,
        "--run-name": "one",
    }
    command = [COMMAND, "retrain", "--json", *(str(word) for option in options.items() for word in option)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == case.exit_code, done.stderr
    return Ran(done.returncode, done.stdout + done.stderr, tmp_path / "output")


def _contents(path: Path) -> str:
    """The content of a file, unpacked if it is compressed."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pandas().to_csv())
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump())
    return path.read_bytes().decode("latin-1")


def _found_in(text: str) -> list[str]:
    return [canary for canary in (*EVERYWHERE, *SOMEWHERE) if canary in text]


def test_no_value_of_a_row_leaves_the_quarantine(ran: Ran, good: pa.Table) -> None:
    """Fails when ids, amounts, times or lines of transactions reach people who may not read them."""
    files = [path for path in ran.output.rglob("*") if path.is_file()]
    files = [path for path in files if not path.is_relative_to(ran.output / "_store")]  # rows of the input, by design
    kept = [path for path in files if path.is_relative_to(ran.output / "quarantine")]
    quarantined = "".join(map(_contents, kept))
    assert {"773162049", "4929118847", "CANARY", "83917.44", "2093-11-17"} <= set(_found_in(quarantined))
    leaks = {
        str(path.relative_to(ran.output)): found
        for path in files
        if path not in kept and (found := _found_in(_contents(path)))
    }
    assert leaks == {}
    assert _found_in(ran.printed) == []

    names = {path.name for path in files}
    assert "one.json" in names
    if ran.exit_code == 0:
        assert {"report.html", "verification.parquet", "input_example.json", "decision.json", "mlflow.db"} <= names
        _assert_generated(next(ran.output.rglob("verification.parquet")), good)
    assert "bad_amount" in ran.printed
    assert str(kept[0]) in ran.printed, "a person has to find the rows"


def _assert_generated(verification: Path, good: pa.Table) -> None:
    amounts = set(pq.read_table(verification)["amount"].drop_null().to_pylist())
    assert len(amounts) > 500
    same = amounts & set(good["amount"].cast("float32").to_pylist())
    assert len(same) <= len(amounts) / 100  # by chance a drawn number is a whole one of cents
