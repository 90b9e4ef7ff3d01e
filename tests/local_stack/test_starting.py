"""What `make up` reports and does about the first champion, with fake components and a fake Airflow."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from factories import decision

from fraud_detection.outputs import dashboard_file
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder
from local_stack import airflow, bucket, mlflow, postgres, seeding, starting
from local_stack.cli import main
from local_stack.settings import MODEL, ROOT, StackError, load
from local_stack.starting import _locked

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
NEXT = NOW + timedelta(hours=1)
REPORT = "fraud-detection/output_data/reports/fraud_detection/20260901T100000Z/report.html"


def _decision(as_of: datetime) -> Decision:
    """A first run that found no model above the floor."""
    return decision(
        Outcome.REFUSED,
        as_of,
        reason="average precision -0.051 [-0.110, +0.008] against the floor 0.260",
        report=f"s3a://{REPORT}",
    )


class Airflow:
    """A fake of its REST API: a triggered run ends at once, in the state that the test sets."""

    def __init__(self) -> None:
        self.triggered = 0
        self.end: Callable[[], str] = lambda: "success"

    def set_paused(self, _dag: str, *, paused: bool) -> None:
        """Do nothing: the DAG exists."""

    def last_runs(self, _dag: str, _count: int = 1) -> list[dict[str, Any]]:
        return []

    def is_paused(self, _dag: str) -> bool:
        return False

    def trigger(self, _dag: str, _prefix: str) -> str:
        self.triggered += 1
        return "make_up"

    def run_state(self, _dag: str, _run_id: str) -> str:
        return self.end()

    def tasks(self, _dag: str, _run_id: str) -> dict[str, str]:
        return {"train": self.end()}

    def next_run(self, _dag: str) -> datetime:
        return NEXT


class Machine:
    """A fake machine on which everything starts at once."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.env = folder / ".env"
        self.env.write_text(f"STACK_FOLDER={folder / 'stack'}\n")
        self.stack = load(self.env)
        self.airflow = Airflow()
        self.patch = patch
        self.log = DecisionLog(open_folder(str(self.stack.bucket / "output_data")), MODEL)
        states = [SimpleNamespace(name=name, is_running=name != "mlflow") for name in ("airflow-api", "mlflow")]
        archive = folder / "venv.tar.gz"
        archive.write_bytes(b"")
        for module, values in (
            (bucket, {"ARCHIVE": archive, "create_archive": lambda: False, "upload": lambda *_: 0}),
            (postgres, {"initialise": lambda *_: False, "create_databases": lambda *_: None}),
            (seeding, {"seed": lambda *_: 0}),
            (mlflow, {"make_job_account": lambda *_: None, "champion": lambda *_: None}),
            (
                airflow,
                {"migrate": lambda *_: False, "connect": lambda *_: self.airflow, "wait_for_dag": lambda *_: None},
            ),
            (
                starting,
                {
                    "_supervisor": lambda *_: SimpleNamespace(states=lambda: states),
                    "_start": lambda *_: None,
                    "_wait_ready": lambda *_: None,
                    "configure": lambda *_: None,
                    "_SCHEDULED_RUN_SECONDS": 0.0,
                },
            ),
        ):
            for name, value in values.items():
                patch.setattr(module, name, value)

    def up(self) -> Result:
        return CliRunner().invoke(main, ["up", "--env", str(self.env)])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def _shows_where_everything_is(machine: Machine, output: str) -> bool:
    words = ("Airflow ", "MLflow ", "cloud ", "PostgreSQL ", machine.stack.airflow_url, "passwords.json")
    return all(word in output for word in words)


def test_a_refused_first_model_does_not_fail_up(machine: Machine) -> None:
    """Fails when a correct refusal looks like a broken installation: exit code 1 and no addresses."""

    def refused() -> str:
        machine.log.write(_decision(NOW))
        return "success"

    machine.airflow.end = refused
    done = machine.up()
    assert done.exit_code == 0, done.output
    assert _shows_where_everything_is(machine, done.output)
    assert f"refused at {NOW:%Y-%m-%d %H:%M} UTC: average precision -0.051" in done.output
    assert REPORT in done.output
    assert f"{NEXT:%Y-%m-%d %H:%M} UTC" in done.output


def test_a_second_up_in_a_decided_hour_repeats_the_verdict_and_runs_nothing(machine: Machine) -> None:
    """Fails when a second `make up` in a decided hour starts a run that must be skipped, or hides the verdict."""
    machine.log.write(_decision(NOW))
    done = machine.up()
    assert done.exit_code == 0, done.output
    assert machine.airflow.triggered == 0
    assert _shows_where_everything_is(machine, done.output)
    assert f"refused at {NOW:%Y-%m-%d %H:%M} UTC" in done.output


def test_up_shows_where_the_dashboard_is_once_a_run_has_made_it(machine: Machine) -> None:
    """Fails when nobody finds the page that shows what serves, or a path leads to no file."""
    machine.log.write(_decision(NOW))
    assert "dashboard" not in machine.up().output
    page = machine.stack.bucket / "output_data" / dashboard_file(MODEL)
    page.parent.mkdir()
    page.write_text("the page")
    lines = {line.split()[0]: line for line in machine.up().output.splitlines() if line.strip()}
    assert Path(ROOT, lines["dashboard"].split()[1].rstrip(";")).read_text() == "the page"


def test_a_second_up_in_a_later_hour_tries_again(machine: Machine) -> None:
    """Fails when one refusal keeps `make up` from ever training again."""
    machine.log.write(_decision(NOW - timedelta(hours=1)))
    assert machine.up().exit_code == 0
    assert machine.airflow.triggered == 1


def test_a_first_run_that_breaks_fails_up_and_shows_where_to_look(machine: Machine) -> None:
    """Fails when a failed first run looks like a refusal, or the address of its log is not shown."""
    machine.airflow.end = lambda: "failed"
    done = machine.up()
    assert done.exit_code == 1
    assert "the first run failed, at train" in done.output
    assert "next: make logs" in done.output
    assert _shows_where_everything_is(machine, done.output)


def test_a_component_that_does_not_start_fails_up_and_shows_the_others(machine: Machine) -> None:
    """Fails when a failure of MLflow hides Airflow's address, or MLflow's address looks like a working one."""

    def broken(_stack: object, _supervisor: object, name: str) -> None:
        if name == "mlflow":
            raise StackError("mlflow has ended\nnext: make logs COMPONENT=mlflow")

    machine.patch.setattr(starting, "_wait_ready", broken)
    done = machine.up()
    assert done.exit_code == 1
    assert "make logs COMPONENT=mlflow" in done.output
    assert _shows_where_everything_is(machine, done.output)
    lines = {line.split()[0]: line for line in done.output.splitlines() if "http://" in line}
    assert lines["MLflow"].endswith("(not running)")
    assert not lines["Airflow"].endswith("(not running)")


def test_a_lost_champion_is_no_refusal(machine: Machine) -> None:
    """Fails when `make up` succeeds and announces a first champion although the one in service has disappeared."""
    machine.log.write(_decision(NOW).model_copy(update={"outcome": Outcome.PROMOTED, "version": 3}))
    done = machine.up()
    assert done.exit_code == 1
    assert "the champion is lost: version 3 of fraud_detection should be in service" in done.output
    assert _shows_where_everything_is(machine, done.output)


def test_a_decision_that_cannot_be_read_is_named(machine: Machine) -> None:
    """Fails when a damaged file ends `make up` in a stack trace."""
    path = machine.stack.bucket / "output_data" / "decisions" / MODEL / "20260901T100000Z.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = machine.up()
    assert done.exit_code == 1
    assert "is not a readable decision" in done.output
    assert _shows_where_everything_is(machine, done.output)


def test_a_second_make_up_on_the_same_stack_is_refused(tmp_path: Path) -> None:
    """Fails when two `make up` start the same components at once, or one cannot start after the other has ended."""
    (tmp_path / ".env").write_text(f"STACK_FOLDER={tmp_path / 'stack'}\n")
    stack = load(tmp_path / ".env")
    stack.run.mkdir(parents=True)
    with _locked(stack), pytest.raises(StackError, match="another make up is running"), _locked(stack):
        pass
    with _locked(stack):
        pass
