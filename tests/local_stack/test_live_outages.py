"""The stack is stopped, or its machine lost, while a job runs: the next `make up` completes the run.

Each case has a stack of its own, whose first run is the one that is interrupted. Slow: `make test-stack`.
"""

from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from live_stack import Live, Run, eventually, kill_tree

from local_stack.settings import MODEL
from local_stack.supervision import marked

pytest_plugins = ["live_fixtures"]
pytestmark = pytest.mark.stack


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A stack that has just come up, with the shipped schedule: its first run begins by itself."""
    found = Live(tmp_path_factory.mktemp("fresh"))
    found.configure("0 * * * *")
    try:
        found.command("up", "--no-first-run")
        yield found
    finally:
        found.remove()


def _first_run(live: Live) -> tuple[Run, str]:
    """The first run, and its job, which is running."""
    run_id = eventually("the first run begins", live.runs)[0]["dag_run_id"]
    run = Run(live, MODEL, run_id, output="output_data")
    return run, run.running_job()


def _require_good_end(live: Live, run: Run) -> None:
    assert run.ended() == "success", run.tasks
    run.require_no_leak()
    run.require_one_decision()
    assert live.champion() == "1"


@pytest.mark.proof
def test_the_api_server_is_killed_during_training(fresh: Live) -> None:
    """Fails when a crash of the API server, which supervisord restarts, costs the run one of its tries."""
    run, job = _first_run(fresh)
    killed = fresh.supervisor.state("airflow-api").pid
    kill_tree(killed)
    eventually("supervisord starts another", lambda: fresh.supervisor.state("airflow-api").pid not in (0, killed))
    _require_good_end(fresh, run)
    assert run.jobs() == [job]


@pytest.mark.proof
def test_down_in_the_middle_of_a_job_costs_no_run(fresh: Live) -> None:
    """Fails when `make down` during a training loses the run, and there is no champion the next morning."""
    run, job = _first_run(fresh)
    output = fresh.command("down")
    assert f"job {job} of run {run.run_id} is cancelled" in output
    fresh.command("up", "--no-first-run")
    assert run.job_status(job) in ("ERROR", "CANCELLED")
    _require_good_end(fresh, run)


def test_a_reboot_in_the_middle_of_a_job_costs_no_run(fresh: Live) -> None:
    """Fails when a power cut during a training loses the run, because the next start wastes its last try."""
    run, _ = _first_run(fresh)
    while killed := marked(fresh.stack):  # others may be born meanwhile
        for process in killed:
            with suppress(psutil.NoSuchProcess):  # it had ended, or its guard was faster
                process.kill()
        psutil.wait_procs(killed, timeout=10)
    fresh.command("up", "--no-first-run")
    _require_good_end(fresh, run)
