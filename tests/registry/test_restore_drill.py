"""MLflow restored from a backup that is older than the decision log."""

import shutil

import pytest
import yaml
from click.testing import CliRunner
from fakes.registry import NAME, T1, World

from fraud_detection.cli import main
from fraud_detection.registry.restoration import logged_otherwise, logged_service
from fraud_detection.schema import Outcome

pytest_plugins = ["registry_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def _command(here: World, *words: str) -> str:
    """What a command prints that must succeed."""
    config = here.output.parent / "retraining.yaml"
    config.write_text(yaml.safe_dump({"model_name": NAME}))
    options = ["--config", str(config), "--output", str(here.output)]
    done = CliRunner().invoke(main, [*words, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_restored_mlflow_and_the_log_agree_after_the_documented_commands(served: World) -> None:
    """Fails when the log goes on saying that a version serves which a restore has taken out of MLflow, when the
    entries after the backup count as lost, or when the documented commands leave promotion stopped.
    """
    backup = served.output / "mlflow.backup"
    shutil.copyfile(served.output / "mlflow.db", backup)
    served.record(Outcome.PROMOTED, T1)
    shutil.copyfile(backup, served.output / "mlflow.db")  # version 2 is gone, its entry in the log is there

    assert len(served.registry.verified_log().entries) == 2
    champion = served.registry.champion()
    assert champion is not None
    assert (champion.version, logged_service(served.log.history()).champion) == (1, 2)
    assert logged_otherwise(served.registry.verified_log().entries, 1) == 2, "each run warns of it"

    _command(served, "pin", "--reason", "MLflow was restored to a moment before version 2")
    assert logged_service(served.log.history()).champion == 1
    assert logged_otherwise(served.registry.verified_log().entries, 1) is None
    _command(served, "unpin", "--reason", "the log names the version that serves")
    assert "MLflow was restored" in _command(served, "decisions")
    assert served.registry.pinned() is None
    assert len(served.registry.verified_log().entries) == 4
    assert logged_service(served.log.history()).champion == 1
