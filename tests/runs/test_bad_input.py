"""Bad input and failing services: a clear message, the right exit code, no stack trace, nothing registered."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, Job
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from fraud_detection.transactions.rules import EXPECTED, REASONS

Change = Callable[[pa.Table], pa.Table]


def _registered(output: Path) -> list[Any]:
    if not (output / "mlflow.db").exists():
        return []
    return list(mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db").search_registered_models())


@pytest.fixture
def refuse(job: Job, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run the job, require an exit code and that nothing is registered, and return the message."""

    def run(exit_code: int, **options: object) -> str:
        ran = job(json=True, **options)
        assert ran.exit_code == exit_code, ran.stderr
        assert ran.json == {"error": ran.json["error"], "exit_code": exit_code}, "a schedule reads the error as JSON"
        assert "Traceback" not in ran.stderr
        assert str(ran.json["error"]) in ran.stderr
        return str(ran.json["error"])

    yield run
    assert _registered(tmp_path / "output") == []
    assert not list((tmp_path / "output").glob("decisions/**/*.json"))


@pytest.fixture
def changed(transactions: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """The small world as one Parquet file, changed."""

    def write(change: Change) -> Path:
        path = tmp_path / "changed.parquet"
        pq.write_table(change(pq.read_table(transactions)), path)
        return path

    return write


def _replace(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def _written(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _changed(path: Path, rows: pa.Table) -> Path:
    pq.write_table(rows, path)
    return path


def _empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Whom each of them is told about, and how, is tested with the reader (tests/transactions/test_profile.py).
UNREADABLE: dict[str, tuple[Callable[[Path, pa.Table], Path], tuple[str, ...]]] = {
    "no file": (lambda folder, _: folder / "nowhere", ("nowhere does not exist", "expected a CSV or Parquet file")),
    "an empty folder": (lambda folder, _: _empty_folder(folder / "empty"), ("holds no data",)),
    "an empty Parquet file": (lambda folder, _: _written(folder / "empty.parquet"), ("empty.parquet",)),
    "an empty CSV file": (lambda folder, _: _written(folder / "empty.csv"), ("empty.csv",)),
    "a truncated Parquet file": (lambda folder, _: _written(folder / "cut.parquet", b"PAR1" * 99), ("cut.parquet",)),
    "missing columns": (
        lambda folder, rows: _changed(folder / "a.parquet", rows.drop_columns(["amount", "terminal_id"])),
        ("amount", "terminal_id", "missing"),
    ),
    "a column of another type": (
        lambda folder, rows: _changed(folder / "a.parquet", _replace(rows, "amount", pa.array([[1.0]] * len(rows)))),
        ("amount", "list"),
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_input_that_cannot_be_read(
    refuse: Callable[..., str], transactions: Path, tmp_path: Path, case: str
) -> None:
    """Fails when an unusable input ends the run with another exit code, a stack trace or no message about the input."""
    make, said = UNREADABLE[case]
    message = refuse(65, input=make(tmp_path, pq.read_table(transactions).slice(0, 100)))
    assert [part for part in said if part not in message] == []


def test_labels_of_a_third_kind(refuse: Callable[..., str], changed: Callable[[Change], Path]) -> None:
    """Fails when labels with an unknown meaning, such as 2 for suspected, are trained on."""

    def some_labels_2(rows: pa.Table) -> pa.Table:
        eighth = pc.equal(pc.bit_wise_and(rows["transaction_id"], 7), 0)
        return _replace(rows, "fraud", pc.if_else(eighth, pa.scalar(2, pa.int8()), rows["fraud"]))

    assert "bad_label" in refuse(65, input=changed(some_labels_2))


def test_a_csv_with_broken_lines(refuse: Callable[..., str], transactions: Path, tmp_path: Path) -> None:
    """Fails when a CSV file full of broken lines is trained on, or the lines are not kept for correction."""
    path = tmp_path / "broken.csv"
    pyarrow.csv.write_csv(pq.read_table(transactions), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1::20] = [f"{line},surplus" for line in lines[1::20]]
    path.write_text("\n".join(lines), encoding="utf-8")
    message = refuse(65, input=path)
    assert "broken_line" in message
    assert list((tmp_path / "output").glob("quarantine/*/*")), "the broken lines are kept for whoever mends them"


def test_five_percent_duplicate_ids(refuse: Callable[..., str], changed: Callable[[Change], Path]) -> None:
    """Fails when a file delivered twice counts its frauds twice."""
    message = refuse(65, input=changed(lambda rows: pa.concat_tables([rows, rows.slice(0, len(rows) // 20)])))
    assert "duplicate_id" in message
    assert "max_rejected_share" in message


def test_future_dates(refuse: Callable[..., str], changed: Callable[[Change], Path]) -> None:
    """Fails when a wrong clock at the data source moves the as-of time into the future."""

    def a_tenth_in_the_future(rows: pa.Table) -> pa.Table:
        late = pc.add(rows["transaction_time"], pa.scalar(timedelta(days=36_500)))
        tenth = pc.equal(pc.bit_wise_and(rows["transaction_id"], 7), 0)
        return _replace(rows, "transaction_time", pc.if_else(tenth, late, rows["transaction_time"]))

    assert "future_time" in refuse(65, input=changed(a_tenth_in_the_future), as_of=None)


def test_a_few_bad_rows_are_quarantined_and_counted(
    job: Job, changed: Callable[[Change], Path], tmp_path: Path
) -> None:
    """Fails when a few bad rows stop the run, or are dropped without being counted and quarantined."""
    ran = job(json=True, input=changed(lambda rows: pa.concat_tables([rows, rows.slice(0, 100)])))
    assert ran.exit_code == 0, ran.stderr
    assert ran.json["rejected"] == {"duplicate_id": 100}
    rejected = next((tmp_path / "output").glob("quarantine/*/*")).read_text(encoding="utf-8")
    assert rejected.count("duplicate_id") == 100


def test_a_settings_file_that_does_not_exist(refuse: Callable[..., str], tmp_path: Path) -> None:
    """Fails when the message for a missing settings file does not name the file and the option."""
    message = refuse(2, config=tmp_path / "nothing.yaml")
    assert "nothing.yaml" in message
    assert "--config" in message


def test_misspelt_settings_are_all_named(refuse: Callable[..., str]) -> None:
    """Fails when a misspelt setting silently falls back to its default."""
    message = refuse(2, settings={"windows": {"holdout_dayz": 7}, "training": {"trees": -1}})
    assert "windows.holdout_dayz" in message
    assert "training.trees" in message


def test_mlflow_unreachable(refuse: Callable[..., str]) -> None:
    """Fails when an unreachable MLflow is not reported with exit code 75, which the schedule retries."""
    assert "127.0.0.1:9" in refuse(75, tracking_uri="http://127.0.0.1:9")


def test_a_champion_that_cannot_be_loaded(job: Job, tmp_path: Path) -> None:
    """Fails when a run decides although its champion cannot be loaded, or ends in a stack trace."""
    job()
    for path in (tmp_path / "output" / "mlartifacts").rglob("model.ubj"):
        path.write_bytes(b"not a model")
    ran = job(json=True, as_of=(AS_OF + timedelta(hours=1)).isoformat())
    assert ran.exit_code == 1
    assert "version 1" in ran.json["error"]
    assert "rollback" in ran.json["error"]
    assert "Traceback" not in ran.stderr
    log = tmp_path / "output" / "decisions" / "fraud_detection"
    assert {path.name for path in log.iterdir()} == {"20260301T000000Z-opening.json", "20260301T000000Z.json"}


def test_a_defect_shows_where_it_is_and_no_value_of_the_data(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fails when a bug that meets an odd row writes the row into the task's log."""

    card = "-".join(["CARD", "4929"])

    def convert(*_: object) -> None:
        raise ValueError(f"could not convert string to float: {card!r}")

    monkeypatch.setattr("fraud_detection.runs.reading.read_stored", convert)
    ran = job(run_name="one", json=True, debug=True)
    assert ran.exit_code == 1
    assert "in convert" in ran.stderr
    found = "ValueError: could not convert string to float: 'AAAA-9999'"
    assert ran.stderr.count(found) == 2, "in the stack trace, and in the message"
    assert re.search(r"a defect of the program in test_bad_input\.py, line \d+: ValueError: ", ran.json["error"])
    assert card not in ran.stdout + ran.stderr + (tmp_path / "output/outcomes/one.json").read_text(encoding="utf-8")


def test_a_defect_shows_no_stack_trace_unless_it_is_asked_for(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a user meets Python's stack trace, or a message that does not say how to get one."""
    monkeypatch.setattr("fraud_detection.runs.reading.read_stored", lambda *_: dict[str, int]()["card"])
    ran = job()
    assert ran.exit_code == 1
    assert "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error       a defect of the program in test_bad_input.py, line ")
    assert "KeyError: 'aaaa'; next: report it, with what the same command prints with --debug" in ran.stderr


def test_an_interrupted_run_leaves_an_outcome(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fails when Ctrl-C ends a run in a stack trace, with another exit code, or its scheduler learns nothing."""

    def interrupted(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("the engine cannot be closed while it works")

    monkeypatch.setattr("fraud_detection.runs.reading.read_stored", interrupted)
    ran = job(run_name="one", json=True)
    assert (ran.exit_code, ran.json["exit_code"]) == (130, 130)
    assert ran.stderr.splitlines()[-1] == "error       interrupted; next: run the same command again"
    assert "Traceback" not in ran.stderr
    outcome = json.loads((tmp_path / "output/outcomes/one.json").read_text(encoding="utf-8"))
    assert (outcome["exit_code"], outcome["retry"], outcome["error"]) == (130, True, ran.json["error"])


def test_an_engine_that_is_unknown(job: Job) -> None:
    """Fails when a mistyped engine does not end with exit code 2."""
    assert job(engine="flink").exit_code == 2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 40 kB, where this user may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root; test_storage.py covers the same with a simulated one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow  # the next run waits for the lease that the first could not release
def test_a_full_disk_while_writing_the_output(job: Job, tiny_disk: Path, tmp_path: Path) -> None:
    """Fails when a full disk leaves half-written results, or a state that the next run cannot complete."""
    (tiny_disk / "filler").write_bytes(b"x" * 30_000)
    database = f"sqlite:///{tmp_path}/mlflow.db"
    ran = job(json=True, output=tiny_disk, tracking_uri=database)
    assert ran.exit_code == 1, ran.stderr
    assert "no space is left" in ran.json["error"]
    assert "Traceback" not in ran.stderr
    assert not [path for path in tiny_disk.rglob("*") if ".tmp-" in path.name]
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    again = job(json=True, output=tiny_disk, tracking_uri=database)
    assert (again.exit_code, again.json["decision"], again.json["version"]) == (0, "promoted", 1)


@pytest.mark.slow
def test_the_installed_command_ends_without_a_stack_trace(tmp_path: Path) -> None:
    """Fails when the installed command, unlike the tests' process, shows a stack trace or another exit code."""
    command = [str(Path(sys.executable).with_name("fraud-detection")), "retrain", "--input", str(tmp_path / "none")]
    config = tmp_path / "settings.yaml"
    config.write_text("", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    ran = subprocess.run(
        [*command, "--config", str(config), "--output", str(tmp_path / "output")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 65
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr


def test_columns_of_another_table_are_not_taken_for_retired_ones(refuse: Callable[..., str], tmp_path: Path) -> None:
    """Fails when a file with wrong column names or separators is answered with the advice to retire columns."""
    (tmp_path / "other.csv").write_text("transaction_id;transaction_time;amount;fraud\n1;2018-01-01;2;0\n")
    assert "retired_columns" not in refuse(65, input=tmp_path / "other.csv")


def test_rows_of_another_form_are_answered_with_the_expected_one(
    refuse: Callable[..., str], changed: Callable[[Change], Path], tmp_path: Path
) -> None:
    """Fails when the message says that amounts are wrong but not how they should be written."""
    rows = pq.read_table(changed(lambda table: table.slice(0, 200)))
    rows = _replace(rows, "amount", pa.array(["$1,234.50"] * len(rows)))
    rows = _replace(rows, "fraud", pa.array(["no"] * len(rows)))
    pyarrow.csv.write_csv(rows, tmp_path / "foreign.csv")
    message = refuse(65, input=tmp_path / "foreign.csv")
    assert "bad_amount 200 (amount: $9,999.99; next: data." in message
    assert "; expected a number from 0 to 10^12, such as 1234.56" in message
    assert "bad_label 200 (fraud: no; next: data." in message
    assert "max_rejected_share" not in message
    assert set(REASONS) == set(EXPECTED)


def test_a_spark_that_does_not_start_is_explained(
    refuse: Callable[..., str], transactions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a Java that cannot start, for lack of memory or of a user name, ends in a stack trace."""

    def exited(*_: object) -> None:
        raise PySparkRuntimeError(error_class="JAVA_GATEWAY_EXITED", message_parameters={})

    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", exited)
    message = refuse(1, input=transactions, engine="spark")
    assert "engine spark failed: PySparkRuntimeError: [JAVA_GATEWAY_EXITED]" in message
