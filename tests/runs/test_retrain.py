"""A whole run, from files to a registered model, as a person or a schedule sees it."""

import json
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import AS_OF, SETTINGS, Job


def _client(output: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")


def _versions(output: Path) -> list[int]:
    return sorted(int(v.version) for v in _client(output).search_model_versions("name = 'fraud_detection'"))


def _hours_later(hours: int) -> str:
    return (AS_OF + timedelta(hours=hours)).isoformat()


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", "UTC"))


def _table(transactions: Path) -> pa.Table:
    return pq.read_table(transactions)


def test_the_first_run_registers_a_champion_and_prints_one_json_object(job: Job, tmp_path: Path) -> None:
    """Fails when a first run registers no champion, or `--json` prints something else than one object."""
    ran = job(json=True)
    assert ran.exit_code == 0, ran.stderr
    found = ran.json
    assert (found["decision"], found["version"], found["champion"]) == ("promoted", 1, None)
    assert found["as_of"] == "2026-03-01T00:00:00Z"
    assert set(found["challenger"]) == {"average_precision", "roc_auc", "card_precision_at_100", "brier"}
    assert set(found["difference"]) == {"value", "low", "high", "confidence"}
    assert found["training"]["start"] == "2026-01-25T00:00:00Z"
    assert found["training"]["end"] == "2026-02-15T00:00:00Z"
    assert found["holdout"]["start"] == "2026-02-15T00:00:00Z"
    assert found["holdout"]["end"] == "2026-02-22T00:00:00Z"
    assert all(check["passed"] for check in found["checks"])
    names = [check["name"] for check in found["checks"]]
    assert len(names) == len(set(names)), "a check is listed once"
    assert found["rejected"] == {}
    assert {"read and check", "features", "train", "compare", "register"} <= set(found["seconds"])
    assert "FIRST CHAMPION v1" in Path(found["report"]).read_text(encoding="utf-8")
    assert "PROMOTED as v1" in ran.stderr
    assert _versions(tmp_path / "output") == [1]


def test_a_first_champion_is_judged_once_against_a_floor_in_numbers(job: Job) -> None:
    """Fails when a first champion shares its error rate with later looks and never comes, or its floor is not shown."""
    ran = job(json=True, settings={**SETTINGS, "comparison": {**SETTINGS["comparison"], "candidate_every_hours": 1}})
    found = ran.json
    assert found["decision"] == "promoted", found["reason"]
    assert found["difference"]["confidence"] == 0.9
    floor = found["floor"]
    amount = floor["amount_average_precision"]
    assert floor["average_precision"] == min(2 * amount, (1 + amount) / 2)
    reached = found["challenger"]["average_precision"]
    assert found["difference"]["value"] == pytest.approx(reached - floor["average_precision"])
    in_numbers = f"the floor {floor['average_precision']:.3f}"
    for text in (found["reason"], ran.stderr, Path(found["report"]).read_text(encoding="utf-8")):
        assert in_numbers in text
    assert job(json=True, as_of=_hours_later(1)).json["floor"] is None


def test_counts_are_those_of_the_data(job: Job, transactions: Path) -> None:
    """Fails when the counts of training or hold-out rows are wrong, and a leak or a loss stays hidden."""
    found = job(json=True).json
    rows = _table(transactions)
    for part, known_at in (("training", AS_OF - timedelta(days=7)), ("holdout", None)):
        span = found[part]
        start, end = (_scalar(datetime.fromisoformat(span[edge])) for edge in ("start", "end"))
        times = rows["transaction_time"]
        inside = rows.filter(pc.and_(pc.greater_equal(times, start), pc.less(times, end)))
        if known_at is not None:
            assert span["transactions"] == len(inside)
            known = pc.less_equal(inside["label_available_at"], _scalar(known_at))
            assert span["frauds"] == pc.sum(pc.and_(pc.equal(inside["fraud"], 1), known)).as_py()
        else:
            assert 0 < span["transactions"] <= len(inside)
            assert 0 < span["frauds"] <= pc.sum(inside["fraud"]).as_py()


def test_the_same_moment_is_decided_once(job: Job, tmp_path: Path) -> None:
    """Fails when a retried run registers a second version."""
    first = job(json=True)
    again = job(json=True)
    assert again.exit_code == 0
    assert again.json["run_id"] == first.json["run_id"]
    assert "decided before; nothing new is registered" in again.stderr
    assert _versions(tmp_path / "output") == [1]
    runs = _client(tmp_path / "output").search_runs(["1"])
    assert len(runs) == 2, "one of the candidate, one of the decision"


def test_a_challenger_that_is_no_better_is_refused_and_registers_nothing(job: Job, tmp_path: Path) -> None:
    """Fails when a model that is no better than the champion is promoted or registered."""
    job()
    ran = job(json=True, as_of=_hours_later(1))
    assert (ran.exit_code, ran.json["decision"], ran.json["version"]) == (0, "refused", None), ran.json["reason"]
    (look,) = ran.json["looks"]
    assert (look["champion_version"], look["passed"]) == (1, False)
    assert [key["label_cutoff"] for key in ran.json["opened"]] == ["2026-03-01T00:00:00Z", "2026-02-22T01:00:00Z"]
    assert ran.json["champion"] is not None
    assert ran.json["champion_version"] == 1
    assert not all(check["passed"] for check in ran.json["checks"])
    assert _versions(tmp_path / "output") == [1]


def test_the_champion_is_served_by_mlflow_to_anyone(job: Job, tmp_path: Path) -> None:
    """Fails when serving the champion needs this package beside MLflow and XGBoost."""
    job()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/output/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/fraud_detection@champion")
    example = model.input_example
    assert model.metadata.signature is not None
    scores = model.predict(example)
    assert len(scores) == len(example)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_rolling_back_pins_and_unpinning_resumes(job: Job, tmp_path: Path) -> None:
    """Fails when a model is back in service an hour after its rollback, or promotion stays off after an unpin."""
    easy = {**SETTINGS, "comparison": {**SETTINGS["comparison"], "first_champion_floor": 1, "risk": 0.4}}
    easy["comparison"] |= {"unseen_card_bound": False}
    easy["promotion"] = {"trust_past_evidence": True}
    weak = {**easy, "training": {**SETTINGS["training"], "trees": 3, "max_depth": 2}}
    assert job(json=True, settings=weak).json["version"] == 1
    second = job(json=True, settings=easy, as_of=_hours_later(1)).json
    assert second["version"] == 2, second["reason"]

    back = job("rollback", reason="v2 declines good customers")
    assert back.exit_code == 0, back.stderr
    assert "champion is v1 (was v2)" in back.stdout
    ran = job(json=True, settings=easy, as_of=_hours_later(2))
    pinned = ran.json
    unpin = (
        f"fraud-detection unpin --config {tmp_path}/retraining.yaml --output {tmp_path}/output --tracking-uri sqlite:"
    )
    assert f"automatic promotion resumes with: {unpin}" in ran.stderr
    assert (pinned["decision"], pinned["champion_version"], pinned["looks"]) == ("no_decision", 1, [])
    assert [check["passed"] for check in pinned["checks"] if check["name"] == "not_pinned"] == [False]

    assert job("unpin", reason="the rule that declined them is gone").exit_code == 0
    other = {**easy, "training": {**SETTINGS["training"], "seed": 8}}
    assert job(json=True, settings=other, as_of=_hours_later(3)).json["decision"] == "promoted"
    history = job("decisions").stdout
    assert "v2 declines good customers" in history
    assert "the rule that declined them is gone" in history


@pytest.mark.slow
def test_rolling_back_where_nothing_served_before_says_so(job: Job) -> None:
    """Fails when a rollback without a previous champion ends in a stack trace."""
    assert "found nothing in" in job("rollback", reason="?").stderr
    job()
    ran = job("rollback", reason="?")
    assert ran.exit_code == 1
    assert "no previous champion" in ran.stderr


@pytest.mark.slow
def test_decisions_lists_the_history(job: Job) -> None:
    """Fails when `fraud-detection decisions` does not show what was decided, when and why."""
    job()
    job(as_of=_hours_later(1))
    lines = job("decisions").stdout.splitlines()
    assert lines[0].startswith("as of ")
    assert "2026-03-01 00:00" in lines[1]
    assert "PROMOTED as v1" in lines[1]
    assert "REFUSED" in lines[2]
    assert [entry["decision"] for entry in json.loads(job("decisions", json=True).stdout)] == ["promoted", "refused"]


def test_the_folder_of_another_model_asks_for_its_settings(job: Job) -> None:
    """Fails when the output folder of another model looks empty, and the user trains a new one."""
    job()
    other = {**SETTINGS, "model_name": "chargebacks"}
    for verb in ("rollback", "unpin"):
        ran = job(verb, settings=other, reason="?")
        assert ran.exit_code == 2
        assert "--config FILE" in ran.stderr


def test_without_frauds_in_the_holdout_there_is_no_decision(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when an outage of the label feed leads to a promotion or refusal."""
    folder = tmp_path / "no_frauds"
    folder.mkdir()
    rows = _table(transactions)
    late = pc.greater_equal(rows["transaction_time"], _scalar(AS_OF - timedelta(days=14)))
    fraud = pc.if_else(late, pa.scalar(0, pa.int8()), rows["fraud"])
    pq.write_table(rows.set_column(rows.schema.get_field_index("fraud"), "fraud", fraud), folder / "all.parquet")
    ran = job(json=True, input=folder)
    assert (ran.exit_code, ran.json["decision"], ran.json["version"]) == (0, "no_decision", None)
    assert "no frauds in the hold-out" in ran.json["reason"]
    assert ran.json["challenger"] is None
    assert Path(ran.json["report"]).exists()


def test_with_frauds_alone_there_is_no_decision_and_no_look(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when an export of the frauds alone is trained on, spends the one test, and ends without a reason."""
    folder = tmp_path / "frauds"
    folder.mkdir()
    rows = _table(transactions)
    rows = rows.filter(pc.equal(rows["fraud"], 1))
    known = rows.schema.get_field_index("label_available_at")
    rows = rows.set_column(known, "label_available_at", rows["transaction_time"])
    pq.write_table(rows, folder / "all.parquet")
    ran = job(json=True, input=folder)
    assert (ran.exit_code, ran.json["decision"], ran.json["looks"], ran.json["opened"]) == (0, "no_decision", [], [])
    assert "holds one class only" in ran.json["reason"]
    assert "; next: " in ran.json["reason"]


def test_with_too_little_history_there_is_no_decision(job: Job) -> None:
    """Fails when a new installation's runs fail in its first weeks, or do not say what they wait for."""
    ran = job(json=True, as_of="2026-01-25")
    assert (ran.exit_code, ran.json["decision"]) == (0, "no_decision")
    assert "too little history" in ran.json["reason"]
    again = job(json=True, as_of="2026-01-25")
    assert again.json["run_id"] == ran.json["run_id"]
    assert "to decide with other settings: --as-of " in again.stderr, "the reason names settings to change"


def test_by_default_the_moment_is_the_hour_after_the_newest_transaction(job: Job) -> None:
    """Fails when the default as-of time follows the clock instead of the data."""
    assert job(json=True, as_of=None).json["as_of"] == "2026-03-03T00:00:00Z"


@pytest.mark.slow
def test_rows_without_card_or_terminal_ids_train_on_what_there_is(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when data without card and terminal ids, such as the ULB data set, cannot be trained on."""
    folder = tmp_path / "anonymous"
    folder.mkdir()
    rows = _table(transactions).drop_columns(["customer_id", "terminal_id"])
    rows = rows.append_column("V1", pc.multiply(rows["amount"], 0.5))
    channel = pc.if_else(pc.greater(rows["amount"], 40), "web", "shop")
    pq.write_table(rows.append_column("channel", channel), folder / "all.parquet")
    columns = {
        "customer_id": None,
        "terminal_id": None,
        "label_available_at": "label_available_at",
        "extra_numeric": ["V1"],
        "extra_categorical": ["channel"],
    }
    ran = job(json=True, input=folder, settings={**SETTINGS, "data": {"columns": columns}})
    assert ran.exit_code == 0, ran.stderr
    assert ran.json["decision"] in {"promoted", "refused"}
    assert ran.json["challenger"]["average_precision"] > 0


@pytest.mark.slow
def test_csv_with_a_label_table_of_its_own_decides_like_parquet(job: Job, transactions: Path, tmp_path: Path) -> None:
    """Fails when labels that arrive in separate files, or CSV instead of Parquet, change the decision."""
    expected = job(json=True).json
    rows = _table(transactions)
    folder, labels = tmp_path / "csv", tmp_path / "labels"
    folder.mkdir()
    labels.mkdir()
    pyarrow.csv.write_csv(rows.drop_columns(["fraud", "label_available_at"]), folder / "transactions.csv")
    frauds = rows.filter(pc.equal(rows["fraud"], 1)).select(["transaction_id", "fraud", "label_available_at"])
    pq.write_table(frauds, labels / "chargebacks.parquet")
    data = {"columns": {"fraud": None}, "labels": {"path": str(labels)}}
    ran = job(json=True, input=folder, output=tmp_path / "other", settings={**SETTINGS, "data": data})
    assert ran.exit_code == 0, ran.stderr
    for name in ("training", "holdout", "decision"):
        assert ran.json[name] == expected[name]


def test_a_secret_in_the_tracking_uri_is_shown_nowhere(job: Job, tmp_path: Path) -> None:
    """Fails when a password in the tracking URI appears in a log, a message or the output folder."""
    ran = job(tracking_uri="http://someone:s3cret-w0rd@127.0.0.1:9/")
    assert ran.exit_code == 75
    assert "s3cret-w0rd" not in ran.stdout + ran.stderr
    assert not any(b"s3cret-w0rd" in path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file())


def test_help_documents_every_command() -> None:
    """Fails when a command of `fraud-detection` is missing from docs/cli.md."""
    from fraud_detection.cli import main

    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^## `fraud-detection ([a-z-]+)`", text, flags=re.MULTILINE))
    assert described == set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("as_of", ["yesterday", "2026-13-01"])
def test_a_moment_that_is_no_time_is_a_wrong_argument(job: Job, as_of: str) -> None:
    """Fails when a mistyped `--as-of` does not end with exit code 2 and an example."""
    ran = job(as_of=as_of)
    assert ran.exit_code == 2
    assert "2026-05-24T00:00:00" in ran.stderr


@pytest.mark.slow
def test_the_output_folder_can_be_moved(job: Job, tmp_path: Path) -> None:
    """Fails when decisions are lost because the output folder was moved."""
    job()
    shutil.move(tmp_path / "output", tmp_path / "moved")
    assert "PROMOTED as v1" in job("decisions", output=tmp_path / "moved").stdout
