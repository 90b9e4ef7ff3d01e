"""A champion that cannot be loaded stops a run instead of looking like none."""

from pathlib import Path
from typing import Any

import pytest
from fakes.registry import NAME, T0, T1, World, artifact, model, world

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import load_champion
from fraud_detection.schema import Outcome

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda file: file.unlink(), "model.ubj is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "corrupted: found"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100] + bytes(100)), "corrupted: found"),
        (lambda file: file.write_bytes(b""), "corrupted: found 0 bytes"),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_explained(tmp_path: Path, harm: Any, found: str, _empty: World) -> None:
    """Fails when a missing or corrupted champion ends in a stack trace, or is compared with as if it were intact."""
    here = world(tmp_path, _empty)
    here.record(Outcome.PROMOTED, T0, seed=0)
    harm(artifact(here, 1, "model.ubj"))
    with pytest.raises(FraudDetectionError) as raised:
        here.registry.champion()
    message = str(raised.value)
    assert type(raised.value) is FraudDetectionError  # exit code 1: trying again does not help
    assert found in message
    assert message.startswith(f"version 1 of {NAME} in MLflow at {here.tracking_uri} cannot be loaded")
    assert "fraud-detection rollback" in message


@pytest.mark.parametrize(
    ("tag", "value", "found"),
    [
        ("sha256", None, "its tag 'sha256' is missing"),
        ("training_end", None, "its tag 'training_end' is missing"),
        ("training_end", "yesterday", "its tags do not say what it was trained on"),
        ("as_of", "soon", "its tags do not say what it was trained on"),
    ],
)
def test_a_champion_without_its_facts_is_explained(served: World, tag: str, value: str | None, found: str) -> None:
    """Fails when a model without the tags that say what it was trained on is compared on data it may have seen."""
    if value is None:
        served.client.delete_model_version_tag(NAME, "1", tag)
    else:
        served.client.set_model_version_tag(NAME, "1", tag, value)
    with pytest.raises(FraudDetectionError, match=f"^version 1 of {NAME} .* cannot be loaded: {found}") as raised:
        served.registry.champion()
    assert "fraud-detection rollback" in str(raised.value)


def test_a_rollback_leaves_a_champion_that_cannot_be_loaded(served: World) -> None:
    """Fails when a rollback needs to load the broken champion that it is meant to replace."""
    served.record(Outcome.PROMOTED, T1)
    artifact(served, 2, "model.ubj").unlink()
    served.registry.rollback(None, "it cannot be loaded", "anna")
    champion = served.registry.champion()
    assert champion is not None
    assert champion.version == 1


def test_a_consumer_gets_the_champion_and_runs_nothing_that_the_registry_names(
    tmp_path: Path, _empty: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a person who can write a model's files chooses what runs in the process that scores payments."""
    here = world(tmp_path, _empty)
    here.record(Outcome.PROMOTED, T0, seed=0)
    (tmp_path / "named_by_the_registry.py").write_text("raise SystemExit('the code of the registry has run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    description = artifact(here, 1, "MLmodel")
    description.write_text(description.read_text().replace("mlflow.xgboost", "named_by_the_registry"))
    champion = load_champion(here.tracking_uri, NAME)
    assert (champion.version, champion.as_of) == (1, T0)
    assert champion.model.to_bytes() == model(0).to_bytes()
    import mlflow

    with pytest.raises(SystemExit, match="the code of the registry has run"):
        mlflow.pyfunc.load_model(f"models:/{NAME}@champion")


def test_a_consumer_gets_no_model_whose_file_was_changed(tmp_path: Path, _empty: World) -> None:
    """Fails when a model that was put into the bucket afterwards scores payments."""
    here = world(tmp_path, _empty)
    here.record(Outcome.PROMOTED, T0, seed=0)
    artifact(here, 1, "model.ubj").write_bytes(model(1).to_bytes())
    with pytest.raises(FraudDetectionError, match="corrupted: found"):
        load_champion(here.tracking_uri, NAME)


def test_a_consumer_learns_that_nothing_serves(tmp_path: Path, _empty: World) -> None:
    """Fails when a consumer ends in a stack trace, or takes some other version, where no champion is in service."""
    here = world(tmp_path, _empty)
    with pytest.raises(FraudDetectionError, match="expected the alias champion"):
        load_champion(here.tracking_uri, NAME)
