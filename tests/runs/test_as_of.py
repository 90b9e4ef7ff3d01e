"""A decision rests on what was known at its as-of time: nothing later may change it, on either engine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, SETTINGS, Job
from spark_job import submit

from benchmarks.split import collect_split
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.time_windows import run_windows
from fraud_detection.transactions.reader import read_transactions

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
CLOCK = AS_OF + 200 * DAY
TABLE = {"columns": {"fraud": None, "label_available_at": None}}
LABELS = ["transaction_id", "fraud", "label_available_at"]
LOW_FLOOR = {**SETTINGS, "comparison": {**SETTINGS["comparison"], "first_champion_floor": 1.0}}
"""With a floor that the first champion exceeds, though some of its chargebacks were reversed."""
OF_THE_RUN = {"seconds", "run_id", "decided_at", "committed_at", "report", "code_revision", "previous_entry"}


def _at(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", "UTC"))


def _replace(rows: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), pa.array(values, rows.schema.field(index).type))
    return rows


def _write(folder: Path, rows: pa.Table, labels: pa.Table | None = None) -> dict[str, Any]:
    """Write transactions, with their labels or with a label table; returns the settings that read them."""
    folder.mkdir(parents=True)
    if labels is None:
        pq.write_table(rows, folder / "all.parquet")
        return LOW_FLOOR
    (folder / "labels").mkdir()
    pq.write_table(rows.drop_columns(LABELS[1:]), folder / "all.parquet")
    pq.write_table(labels, folder / "labels" / "all.parquet")
    return {**LOW_FLOOR, "data": {**TABLE, "labels": {"path": str(folder / "labels")}}}


def _frauds(rows: pa.Table) -> pa.Table:
    """The chargebacks as they were first reported, and of some that they were reversed before the as-of time."""
    frauds = rows.filter(pc.equal(rows["fraud"], 1)).select(LABELS)
    known = frauds.filter(pc.less(frauds["label_available_at"], _at(AS_OF - 9 * DAY)))
    reversed_ = known.filter(pc.equal(pc.bit_wise_and(known["transaction_id"], 3), 0))
    back = pc.add(reversed_["label_available_at"], pa.scalar(8 * DAY))
    return pa.concat_tables([frauds, _replace(reversed_, fraud=[0] * len(reversed_), label_available_at=back)])


def _later(rows: pa.Table) -> pa.Table:
    """Every kind of bad data after the as-of time: amounts, labels, copies of earlier ids."""
    copies = rows.filter(pc.less(rows["transaction_time"], _at(AS_OF))).slice(0, 3000)
    times = pc.add(copies["transaction_time"], pa.scalar(49 * DAY))
    odd = np.arange(len(copies)) % 3
    labels = pc.add(times, pa.scalar(DAY))
    copies = _replace(
        copies,
        transaction_time=times,
        amount=np.where(odd == 0, -1.0, 7.0),
        fraud=np.where(odd == 1, 2, 1),
        label_available_at=labels,
    )
    return copies.filter(pc.greater_equal(copies["transaction_time"], _at(AS_OF)))


def _changed_inline(rows: pa.Table) -> pa.Table:
    """Other rows after the as-of time, and labels from after it: fraud, genuine and invalid."""
    before = rows.filter(pc.less(rows["transaction_time"], _at(AS_OF)))
    late = pc.fill_null(pc.greater(before["label_available_at"], _at(AS_OF)), False).to_numpy()
    ids = before["transaction_id"].to_numpy()
    # A genuine row without a label time is presumed genuine by its age; here it gets a label of after AS_OF as well.
    unsaid = before["label_available_at"].is_null().to_numpy() & (before["transaction_time"].to_numpy() >= _young())
    changed = late | (unsaid & (ids % 5 == 0))
    fraud = np.where(changed, ids % 3, before["fraud"].to_numpy())
    times = before["label_available_at"].to_numpy().copy()
    times[changed] = np.datetime64(AS_OF.replace(tzinfo=None), "us") + np.timedelta64(3, "D")
    before = _replace(before, fraud=fraud, label_available_at=pa.array(times, from_pandas=True))
    return pa.concat_tables([before, _later(rows)])


def _young() -> np.datetime64:
    return np.datetime64((AS_OF - 7 * DAY).replace(tzinfo=None), "us")


def _changed_labels(rows: pa.Table) -> pa.Table:
    """Corrections after the as-of time for most transactions, lines without id, and unknown transactions."""
    labels = _frauds(rows)
    chosen = rows.filter(pc.not_equal(pc.bit_wise_and(rows["transaction_id"], 7), 0)).select(LABELS)
    count = len(chosen)
    chosen = _replace(
        chosen, fraud=np.arange(count) % 3, label_available_at=[AS_OF + timedelta(microseconds=1)] * count
    )
    ids = chosen["transaction_id"].to_numpy().astype("float64")
    ids[::100] = np.nan
    ids[1::100] += 10**15
    return pa.concat_tables([labels, _replace(chosen, transaction_id=pa.array(ids, from_pandas=True).cast(pa.int64()))])


def _worlds(rows: pa.Table, folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The data at the as-of time, and what they became later, with a label column and with a label table."""
    seen = rows.filter(pc.less(rows["transaction_time"], _at(AS_OF)))
    after = pa.concat_tables([seen, _later(rows)])
    made = {
        "column": (rows, None),
        "column, later": (_changed_inline(rows), None),
        "table": (rows, _frauds(rows)),
        "table, later": (after, _changed_labels(rows)),
    }
    return {name: (folder / name, _write(folder / name, *tables)) for name, tables in made.items()}


def _of_the_decision(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in OF_THE_RUN}


def test_nothing_later_than_t_changes_the_decision_at_t(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when rows or labels from after the as-of time change the decision, which then cannot be repeated."""
    worlds = _worlds(pq.read_table(transactions), tmp_path / "worlds")
    found = {
        name: _of_the_decision(job(json=True, input=folder, settings=chosen, output=tmp_path / "sail" / name).json)
        for name, (folder, chosen) in worlds.items()
    }
    assert found["column"]["decision"] == found["table"]["decision"] == "promoted"
    assert found["column"]["training"] != found["table"]["training"], "the reversed chargebacks of the table are there"
    for kind in ("column", "table"):
        folder, chosen = worlds[f"{kind}, later"]
        on_spark = _of_the_decision(submit(folder, tmp_path / "spark" / kind, chosen))
        assert found[f"{kind}, later"] == on_spark == found[kind]


def describe(engine: Engine, worlds: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """What a decision rests on, as plain values: the profile's checks, and all rows."""
    found = {}
    with session(engine) as spark:
        for name, (folder, chosen) in worlds.items():
            settings = Settings.model_validate(chosen)
            windows = run_windows(AS_OF, settings.windows)
            transactions = read_transactions(spark, settings.data, folder, CLOCK, AS_OF)
            profile, rows = transactions.profile, collect_split(transactions, AS_OF, settings)
            found[name] = {
                "rows": profile.rows,
                "rejected": profile.rejected,
                "warnings": profile.warnings(settings.data, windows),
                "default_as_of": str(profile.default_as_of),
                "frauds": profile.frauds_by_hour.tolist(),
                "fingerprint": profile.fingerprint(windows.history_start, windows.holdout_end),
                "labels": str(profile.labels and (profile.labels.without_id, profile.labels.without_transaction)),
                "training": _content(rows.training.rows),
                "holdout": _content(rows.holdout),
            }
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def _content(rows: pd.DataFrame) -> str:
    left_out = {"label_available_at", "label_history"}
    return str(pd.util.hash_pandas_object(rows[[name for name in rows if name not in left_out]], index=False).sum())


@pytest.fixture(scope="module")
def described(transactions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The four worlds on both engines, Spark in its own process."""
    folder = tmp_path_factory.mktemp("described")
    worlds = _worlds(pq.read_table(transactions), folder / "worlds")
    shown = {name: (str(path), chosen) for name, (path, chosen) in worlds.items()}
    (folder / "worlds.json").write_text(json.dumps(shown), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_CONNECT_MODE_ENABLED"}
    tests = Path(__file__).parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent)])
    command = [sys.executable, __file__, str(folder / "worlds.json")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=900)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return {"sail": describe(Engine.SAIL, shown), "spark": json.loads(ran.stdout.splitlines()[-1])}


@pytest.mark.parametrize("kind", ["column", "table"])
@pytest.mark.parametrize("engine", ["sail", "spark"])
def test_rows_gates_and_fingerprint_at_t_are_those_of_t(described: dict[str, Any], engine: str, kind: str) -> None:
    """Fails when counts, warnings, fingerprint, labels, weights or features change with data after the as-of time."""
    assert described[engine][f"{kind}, later"] == described[engine][kind]
    assert described["sail"][kind] == described["spark"][kind]
    assert described[engine][kind]["rejected"] == {}


# Data of before the as-of time that arrive after it


def _changed_data(warnings: list[str]) -> list[str]:
    return [warning for warning in warnings if "have changed since" in warning]


def _with(rows: pa.Table, change: Callable[[pa.Table], pa.Table], folder: Path) -> Path:
    folder.mkdir()
    pq.write_table(change(rows), folder / "all.parquet")
    return folder


def test_the_next_decision_says_when_the_data_of_the_last_have_changed(
    job: Job, transactions: Path, tmp_path: Path
) -> None:
    """Fails when rows that arrive late go unnoticed, although the previous decision can no longer be repeated."""
    rows = pq.read_table(transactions)
    first = job(json=True).json
    assert first["data_fingerprint"]
    second = job(json=True, as_of=(AS_OF + timedelta(hours=1)).isoformat()).json
    assert _changed_data(second["warnings"]) == [], "labels and rows of the hour in between are no change"

    def late(rows: pa.Table) -> pa.Table:
        one = rows.filter(pc.less(rows["transaction_time"], _at(AS_OF - 20 * DAY))).slice(100, 1)
        return pa.concat_tables([rows, _replace(one, transaction_id=[1])])

    grown = _with(rows, late, tmp_path / "grown")
    third = job(json=True, input=grown, as_of=(AS_OF + timedelta(hours=2)).isoformat()).json
    assert len(_changed_data(third["warnings"])) == 1
    assert "2026-03-01 01:00" in _changed_data(third["warnings"])[0]
    assert third["data_fingerprint"] != second["data_fingerprint"]
    fourth = job(json=True, input=grown, as_of=(AS_OF + timedelta(hours=3)).isoformat()).json
    assert _changed_data(fourth["warnings"]) == [], "warned of twice"


def test_labels_that_come_late_with_an_older_time_are_a_change(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a label backdated to before the last decision goes unnoticed."""
    rows = pq.read_table(transactions)
    labels = _frauds(rows)
    chosen = _write(tmp_path / "first", rows, labels)
    assert job(json=True, input=tmp_path / "first", settings=chosen).json["decision"] == "promoted"

    def next_run(name: str, hours: int, more: pa.Table) -> list[str]:
        chosen = _write(tmp_path / name, rows, pa.concat_tables([labels, more]))
        as_of = (AS_OF + timedelta(hours=hours)).isoformat()
        return _changed_data(job(json=True, input=tmp_path / name, settings=chosen, as_of=as_of).json["warnings"])

    one = labels.filter(pc.less(labels["label_available_at"], _at(AS_OF - 15 * DAY))).slice(0, 1)
    corrected = _replace(one, fraud=[0], label_available_at=[AS_OF + timedelta(minutes=30)])
    assert next_run("corrected", 1, corrected) == [], "a correction after the as-of time is no change"
    backdated = _replace(one, fraud=[0], label_available_at=[AS_OF - 14 * DAY])
    assert len(next_run("backdated", 2, pa.concat_tables([corrected, backdated]))) == 1


def test_rows_of_the_future_are_warned_of_and_change_nothing(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when a wrong clock at the source goes unnoticed, or its rows count as bad rows of an earlier as-of time."""
    rows = pq.read_table(transactions)
    expected = job(json=True).json

    def future(rows: pa.Table) -> pa.Table:
        some = rows.slice(0, 5000)
        times = pc.add(some["transaction_time"], pa.scalar(36_500 * DAY))
        return pa.concat_tables([rows, _replace(some, transaction_time=times, label_available_at=[None] * 5000)])

    ran = job(json=True, input=_with(rows, future, tmp_path / "future"), output=tmp_path / "other")
    assert ran.exit_code == 0, ran.stderr
    warnings = ran.json["warnings"]
    assert [warning for warning in warnings if "5,000 rows are later than the clock" in warning]
    assert _of_the_decision(ran.json | {"warnings": []}) == _of_the_decision(expected | {"warnings": []})
    assert list((tmp_path / "other").glob("quarantine/*/rejected.csv"))


def test_an_input_without_a_row_before_t_is_refused(job: Job) -> None:
    """Fails when input without a row before the as-of time is trained on, or ends in a stack trace."""
    ran = job(json=True, as_of=datetime(2025, 1, 1, tzinfo=UTC).isoformat())
    assert ran.exit_code == 65
    assert "no transaction before 2025-01-01 00:00 UTC" in ran.json["error"]


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    sys.stdout.write(json.dumps(describe(Engine.SPARK, json.loads(text))) + "\n")
