"""First runs on the running stack: other start dates, and one that ends without a champion. Slow: `make test-stack`."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from live_stack import Live, Run, decided

from local_stack import seeding
from local_stack.settings import DEFAULTS, ROOT

pytest_plugins = ["live_fixtures"]
pytestmark = pytest.mark.stack


@pytest.mark.proof
@pytest.mark.parametrize("at", ["2025-07-15T16:30"])  # many dates, without Airflow: benchmarks/first_champion.py
def test_the_first_run_on_another_date_ends_with_a_champion(quiet: Live, tmp_path: Path, at: str) -> None:
    """Fails when `make up` brings a champion only on some start dates."""
    start = datetime.fromisoformat(at).replace(tzinfo=UTC)
    model = f"start_{start:%Y%m%d}"
    seeding.seed(tmp_path, start)
    (quiet.stack.bucket / model).mkdir()
    shutil.move(seeding.data_folder(tmp_path), quiet.stack.bucket / model / "input")
    run = Run(quiet, model).start(input_folder=f"{model}/input", run_after=start.isoformat())
    assert run.ended() == "success", run.tasks
    run.require_no_leak()
    run.require_one_decision()


@pytest.mark.proof
def test_up_ends_well_where_the_first_model_is_refused(tmp_path: Path) -> None:
    """Fails when a correct refusal fails `make up` and hides its addresses, or the hour is trained twice."""
    settings = yaml.safe_load((ROOT / DEFAULTS["TRAINING_SETTINGS"]).read_text())
    # Half the way to a perfect model: one tree with one split does not get there.
    settings["comparison"] = {**settings.get("comparison", {}), "first_champion_floor": 1000.0}
    settings["training"] = {**settings.get("training", {}), "trees": 1, "max_depth": 1}
    training = tmp_path / "training.yaml"
    training.write_text(yaml.safe_dump(settings))
    live = Live(tmp_path, training)
    live.configure("0 * * * *")
    try:
        for output in (live.command("up"), live.command("up")):
            lines = {line.split()[0]: line for line in output.splitlines()}
            assert " refused at " in lines["verdict"], output
            assert "half the way from ranking by amount" in lines["verdict"]
            assert Path(ROOT, lines["report"].split()[-1]).is_file()
            assert "UTC (SCHEDULE in .env)" in lines["next"]
            assert live.stack.airflow_url in lines["Airflow"]
        assert live.champion() is None
        jobs = live.emulator.events("job", status="PROVISIONING")
        assert len(jobs) == len(decided(live.stack.bucket / "output_data"))
    finally:
        live.remove()
