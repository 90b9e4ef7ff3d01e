"""The whole system on this machine, as `make up` brings it up. Slow: `make test-stack`."""

import json
import subprocess
from urllib.request import urlopen

import psutil
import pytest
from live_stack import Arguments, Live, eventually

from local_stack.components import COMPONENTS
from local_stack.ports import is_free
from local_stack.settings import REAPER_DAG, TRAINING_DAG
from local_stack.supervision import marked

pytest_plugins = ["live_fixtures"]
pytestmark = pytest.mark.stack


def test_up_ends_with_a_healthy_stack_and_a_champion(live: Live) -> None:
    """Fails when `make up` ends with a component that is not ready, or without a champion in service."""
    table = live.command("status")
    for component in COMPONENTS:
        line = next(line for line in table.splitlines() if line.startswith(component.name))
        assert " ready " in line, table
    assert live.champion() == "1"
    first = live.runs()[-1]
    assert first["state"] == "success"
    assert live.api.tasks(TRAINING_DAG, first["dag_run_id"])["train"] == "success"
    assert live.api.import_errors() == ""
    assert live.emulator.clusters() == []
    assert live.emulator.events("job", status="DONE")


def test_up_prints_a_command_that_scores_and_the_address_of_the_dashboard(live: Live) -> None:
    """Fails when the command that `make up` prints scores nothing, or the address of the dashboard shows no page."""
    printed = {line[:15].strip(): line[15:] for line in live.first_up.splitlines()}
    scored = subprocess.run(["/bin/sh", "-c", printed["score"]], capture_output=True, text=True, check=True)
    answer = json.loads(scored.stdout)
    assert answer["transaction_id"] == "999999999"
    assert answer["model_version"] == int(live.champion() or 0)
    assert 0 < answer["probability"] < 1
    with urlopen(printed["dashboard"].split()[0], timeout=30) as page:  # noqa: S310 - of this machine
        assert "<title>" in page.read().decode()


def test_the_schedule_goes_on_by_itself(live: Live) -> None:
    """Fails when no scheduled run follows the first one, and the model is retrained only by hand."""
    first = live.runs()[-1]["run_after"]

    def later() -> bool:
        return any(
            run["run_type"] == "scheduled" and run["state"] == "success" and run["run_after"] > first
            for run in live.runs()
        )

    eventually("a scheduled run after the first one", later, 600.0)
    reaper = live.api.last_runs(REAPER_DAG)
    assert reaper, "the reaper has a schedule of its own, and has not run"


def test_the_whole_idle_stack_fits_into_2_gib(live: Live) -> None:
    """Fails when the idle stack takes more than 2 GiB, and leaves too little memory on a laptop."""
    eventually("no run is under way", lambda: all(run["state"] == "success" for run in live.runs()))
    table = live.command("status")
    used = float(next(line for line in table.splitlines() if line.startswith("all")).split()[-1])
    assert 300 < used <= 2048, table


def test_no_secret_is_seen(live: Live, arguments: Arguments) -> None:
    """Fails when a password or key can be read in process arguments, rendered templates, logs or Airflow's API."""
    seen = arguments.stop()
    assert any("fraud_detection_model.py" in words for words in seen), "the job was not among the processes looked at"
    secrets = {**live.secrets}
    for account in ("airflow", "dataproc"):
        key = json.loads((live.stack.cloud / "keys" / f"{account}.json").read_text())
        secrets[f"key of {account}"] = key["private_key"].splitlines()[5]
    run_id = live.runs()[-1]["dag_run_id"]
    tasks = live.api.call("GET", f"dags/{TRAINING_DAG}/dagRuns/{run_id}/taskInstances")["task_instances"]
    rendered = json.dumps([task["rendered_fields"] for task in tasks])
    assert "tracking-uri" in rendered
    places = {
        "arguments": "\n".join(seen),
        "rendered templates": rendered,
        "connections": json.dumps(live.api.call("GET", "connections")),
        "variables": json.dumps(live.api.call("GET", "variables")),
        "event log": (live.stack.cloud / "events.jsonl").read_text(),
    }
    logs = [path for folder in ("logs", "cloud/jobs") for path in (live.stack.folder / folder).rglob("*.log")]
    places |= {str(path): path.read_text(errors="replace") for path in logs}
    found = [(name, place) for place, text in places.items() for name, secret in secrets.items() if secret in text]
    assert found == []


def test_up_again_changes_nothing(live: Live) -> None:
    """Fails when a second `make up` restarts running components, uploads again, or starts another training."""
    before = {state.name: state.pid for state in live.supervisor.states()}
    jobs = len(live.emulator.events("job", status="PROVISIONING"))
    output = live.command("up")
    assert {state.name: state.pid for state in live.supervisor.states()} == before
    assert "0 files written" in output
    assert "0 objects uploaded" in output
    assert len(live.emulator.events("job", status="PROVISIONING")) == jobs


def test_down_and_up_keep_the_data(live: Live) -> None:
    """Fails when `make down` leaves processes, or `make up` after it has lost the champion, runs or decisions."""
    runs = {run["dag_run_id"] for run in live.runs()}
    decisions = sorted((live.stack.bucket / "output_data" / "decisions").rglob("*.json"))
    live.command("down")
    assert marked(live.stack) == []
    assert all(is_free(port) for port in live.stack.ports.values())
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(live.stack.folder) in " ".join(p.info["cmdline"] or [])
    ]
    output = live.command("up")
    assert "version 1 of fraud_detection is in service" in output
    assert runs <= {run["dag_run_id"] for run in live.runs()}
    assert sorted((live.stack.bucket / "output_data" / "decisions").rglob("*.json"))[: len(decisions)] == decisions
