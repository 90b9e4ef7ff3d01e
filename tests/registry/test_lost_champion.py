"""A champion that disappeared without being retired, and every way to restore service."""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from click.testing import CliRunner
from conftest import AS_OF, SETTINGS, CommandResult, Job

from fraud_detection.cli import main

NAME = "fraud_detection"
EASY = {
    **SETTINGS,
    "comparison": {**SETTINGS["comparison"], "first_champion_floor": 1, "risk": 0.4},
    "promotion": {"trust_past_evidence": True},
}
WEAK = {**EASY, "training": {**SETTINGS["training"], "trees": 1, "max_depth": 1}}

# SQLAlchemy warns of MLflow's use of it.
pytestmark = [pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"), pytest.mark.slow]


def _later(hours: int) -> str:
    return (AS_OF + timedelta(hours=hours)).isoformat()


def _client(output: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db", f"sqlite:///{output}/mlflow.db")


def _aliases(output: Path) -> dict[str, int]:
    return {alias: int(version) for alias, version in _client(output).get_registered_model(NAME).aliases.items()}


@pytest.fixture(scope="module")
def _template(tmp_path_factory: pytest.TempPathFactory, transactions: Path) -> Path:
    """An output folder in which version 2 serves and version 1 served before it."""
    folder = tmp_path_factory.mktemp("two-champions")
    config = folder / "retraining.yaml"
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        for as_of, settings in ((_later(-8 * 24), WEAK), (_later(1), EASY)):
            config.write_text(yaml.safe_dump(settings), encoding="utf-8")
            options = {"--config": config, "--output": folder / "output", "--input": transactions, "--as-of": as_of}
            words = [str(word) for option in options.items() for word in option]
            ran = CliRunner().invoke(main, ["retrain", *words], catch_exceptions=False)
            assert "PROMOTED as" in ran.output, ran.output
    shutil.copytree(folder / "output" / "mlartifacts", folder / "mlartifacts")
    return folder / "output"


@pytest.fixture
def output(tmp_path: Path, _template: Path) -> Path:
    """A copy of the template, where the fixture `job` works; its artifacts are shared, and made whole again."""
    folder = tmp_path / "output"
    shutil.copytree(_template.parent / "mlartifacts", _template / "mlartifacts", dirs_exist_ok=True)
    folder.mkdir()
    shutil.copy(_template / "mlflow.db", folder)
    shutil.copytree(_template / "decisions", folder / "decisions")
    return folder


def _run(command: str) -> str:
    """Run a command from a message, with a reason filled in."""
    words = shlex.split(command.replace("…", "tried"))
    assert words.pop(0) == "fraud-detection"
    ran = CliRunner().invoke(main, words, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def _commands(message: str) -> dict[str, str]:
    """The commands in a message, by verb."""
    found = re.findall(r'fraud-detection (\S+) [^;]*?--reason "…"', message)
    lines = re.findall(r'fraud-detection \S+ [^;]*?--reason "…"', message)
    return dict(zip(found, lines, strict=True))


def _alias_deleted(output: Path) -> None:
    _client(output).delete_registered_model_alias(NAME, "champion")


def _version_deleted(output: Path) -> None:
    _client(output).delete_model_version(NAME, "2")


def _version_missing_under_its_alias(output: Path) -> None:
    """The state of a registry that keeps the alias of a deleted version."""
    with sqlite3.connect(output / "mlflow.db") as database:
        database.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2")


def _all_versions_deleted(output: Path) -> None:
    for version in ("1", "2"):
        _client(output).delete_model_version(NAME, version)


def _model_deleted(output: Path) -> None:
    _client(output).delete_registered_model(NAME)


def _model_renamed(output: Path) -> None:
    _client(output).rename_registered_model(NAME, "another")


def _pinned_version_deleted(output: Path) -> None:
    _run(f"fraud-detection rollback {_options(output)} --to 1 --reason …")
    _client(output).delete_model_version(NAME, "1")


def _log_and_alias_gone(output: Path) -> None:
    """Another output folder for the same registry, so that only the registry knows the champion."""
    shutil.rmtree(output / "decisions")
    _alias_deleted(output)


def _options(output: Path) -> str:
    return f"--output {output} --config {output.parent / 'retraining.yaml'}"


LOSSES = [
    _alias_deleted,
    _version_deleted,
    _version_missing_under_its_alias,
    _all_versions_deleted,
    _model_deleted,
    _model_renamed,
    _pinned_version_deleted,
    _log_and_alias_gone,
]
RESTORED_BY_ROLLBACK: dict[Callable[[Path], None], int] = {
    _alias_deleted: 2,
    _version_deleted: 1,
    _version_missing_under_its_alias: 1,
    _pinned_version_deleted: 2,
    _log_and_alias_gone: 2,
}


def _lose(job: Job, output: Path, loss: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> CommandResult:
    """Lose the champion, and return the result of the run that notices it."""

    def paid(*_: object) -> None:
        raise AssertionError("a challenger was trained before the loss was noticed")

    (output.parent / "retraining.yaml").write_text(yaml.safe_dump(EASY), encoding="utf-8")
    loss(output)
    with monkeypatch.context() as patched:
        patched.setattr("fraud_detection.runs.training.fit", paid)
        ran = job(json=True, settings=EASY, as_of=_later(2))
    assert ran.exit_code == 1
    assert "the champion is lost" in ran.json["error"]
    assert "should be in service" in ran.json["error"]
    assert "Traceback" not in ran.stderr
    assert not (output / "decisions" / NAME / "20260301T020000Z.json").exists()
    return ran


def _accept_another_log(job: Job, loss: Callable[[Path], None]) -> None:
    """Without the log that MLflow knows no run measures anything, until a user goes on with the new one."""
    if loss is _log_and_alias_gone:
        ran = job(json=True, settings=EASY, as_of=_later(2))
        assert (ran.exit_code, "is not the one that was written" in ran.json["error"]) == (1, True)
        _run(_commands(ran.json["error"])["accept-log"])


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=[pytest.mark.proof] if place % 2 else []) for place, loss in enumerate(LOSSES)]
)
def test_a_lost_champion_ends_the_run_and_can_be_retired(
    job: Job, output: Path, loss: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a lost champion counts as "none yet", and any challenger is promoted without a comparison."""
    message = _lose(job, output, loss, monkeypatch).json["error"]
    _run(_commands(message)["retire-champion"])
    lost = 1 if loss is _pinned_version_deleted else 2
    _accept_another_log(job, loss)
    successor = job(json=True, settings=EASY, as_of=_later(2))
    assert successor.exit_code == 0, successor.stderr
    assert (successor.json["decision"], successor.json["champion_version"]) == ("promoted", None)
    assert successor.json["retired_version"] == lost
    assert f"version {lost} was retired by" in successor.json["reason"]
    report = Path(successor.json["report"]).read_text(encoding="utf-8")
    assert f"It succeeds v{lost}, which was retired." in report
    assert "FIRST CHAMPION" not in report
    following = job(json=True, settings=EASY, as_of=_later(3)).json
    assert (following["champion_version"], following["retired_version"]) == (successor.json["version"], None)
    assert "RETIRE-CHAMPION" in job("decisions").stdout


@pytest.mark.parametrize("loss", RESTORED_BY_ROLLBACK)
def test_a_lost_champion_is_restored_by_the_command_that_the_message_names(
    job: Job, output: Path, loss: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the command in the message does not restore the champion, and an operator has no way out."""
    message = _lose(job, output, loss, monkeypatch).json["error"]
    commands = _commands(message)
    version = RESTORED_BY_ROLLBACK[loss]
    assert f"champion is v{version}" in _run(commands["rollback"])
    assert _aliases(output)["champion"] == version
    _accept_another_log(job, loss)
    assert job(json=True, settings=EASY, as_of=_later(2)).json["champion_version"] == version
    _run(commands["unpin"])
    decided = job(json=True, settings=EASY, as_of=_later(3)).json
    assert (decided["champion_version"], decided["retired_version"]) == (version, None)
    assert all(check["passed"] for check in decided["checks"] if check["name"] == "not_pinned")


def test_a_renamed_model_gets_its_name_back(job: Job, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a rename in MLflow's interface loses the champion, or the message does not say how to undo it."""
    message = _lose(job, output, _model_renamed, monkeypatch).json["error"]
    (program,) = re.findall(r'python -c "([^"]+)"', message)
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert job(json=True, settings=EASY, as_of=_later(2)).json["champion_version"] == 2


def test_another_registry_in_the_environment_is_not_used(
    job: Job, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a variable of the shell sends promotions to another registry than the configured one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/other.db")
    ran = job(json=True, settings=EASY, as_of=_later(2))
    assert (ran.exit_code, ran.json["champion_version"]) == (0, 2)
    assert not (tmp_path / "other.db").exists()


def test_another_tracking_uri_is_noticed(job: Job, output: Path, tmp_path: Path) -> None:
    """Fails when a run with a wrong tracking URI promotes a first champion there."""
    uri = f"sqlite:///{tmp_path}/other.db"
    ran = job(json=True, settings=EASY, as_of=_later(2), tracking_uri=uri)
    assert ran.exit_code == 1
    assert "there is no registered model fraud_detection" in ran.json["error"]
    assert "check --tracking-uri" in ran.json["error"]
    assert f"--tracking-uri {uri}" in _commands(ran.json["error"])["retire-champion"]


def test_a_decided_moment_is_repeated_without_a_champion(job: Job, output: Path) -> None:
    """Fails when the retry of a decided run fails because the champion was lost afterwards."""
    _alias_deleted(output)
    ran = job(json=True, settings=EASY, as_of=_later(1))
    assert (ran.exit_code, ran.json["decision"], ran.json["version"]) == (0, "promoted", 2)


def test_a_retired_champion_can_come_back(job: Job, output: Path) -> None:
    """Fails when a retirement cannot be undone, or is missing from the history."""
    assert "is not the champion: 2 is" in job("retire-champion", version=1, reason="?").stderr
    assert _aliases(output) == {"champion": 2, "previous_champion": 1}
    done = job("retire-champion", version=2, reason="terminal ids are gone")
    assert (done.exit_code, "champion v2 is out of service" in done.stdout) == (0, True)
    assert _aliases(output) == {"previous_champion": 2}
    again = job("retire-champion", version=2, reason="?")
    assert (again.exit_code, "was retired by" in again.stderr) == (1, True)
    back = job("rollback", reason="they are back")
    assert back.exit_code == 0, back.stderr
    assert "champion is v2 (was none)" in back.stdout
    assert _aliases(output) == {"champion": 2}
    pinned = job(json=True, settings=EASY, as_of=_later(2)).json
    assert (pinned["champion_version"], pinned["retired_version"]) == (2, None)
    assert job("unpin", reason="settled").exit_code == 0
    history = job("decisions").stdout
    assert "v2 → none" in history
    assert "none → v2" in history


def test_retiring_where_nothing_was_promoted_says_so(job: Job, tmp_path: Path) -> None:
    """Fails when retiring a champion in a new installation ends in MLflow's RESOURCE_DOES_NOT_EXIST."""
    (tmp_path / "output" / "outcomes").mkdir(parents=True)
    (tmp_path / "output" / "outcomes" / "first.json").touch()
    ran = job("retire-champion", version=1, reason="?")
    assert (ran.exit_code, "no champion to retire; train one" in ran.stderr) == (1, True)
