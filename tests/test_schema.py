"""What is stored stays readable: decisions of earlier releases as they are, and those of this one whole."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import candidate_record, decision, look_record, opening, span, threshold
from pydantic import ValidationError

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.aliases import Pin, Retirement
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.commit import Intent
from fraud_detection.registry.decision_log import DecisionLog, Intervention
from fraud_detection.schema import (
    SCHEMA_VERSION,
    Decision,
    LookKey,
    LookRecord,
    Opening,
    Outcome,
    RetirementReason,
    RetirementRecord,
)
from fraud_detection.storage import open_folder

SCHEMA_1 = Path(__file__).parent / "fixtures" / "schema_1"
LOG = sorted((SCHEMA_1 / "decisions" / "fraud_detection").glob("*.json"))
T = datetime(2026, 3, 1, tzinfo=UTC)
CANDIDATE = candidate_record(T)


@pytest.mark.parametrize("path", LOG, ids=lambda path: path.stem)
def test_an_entry_of_the_release_before_is_read_and_written_as_it_is(path: Path) -> None:
    """Fails when an upgrade makes a log unreadable, or changes the form that scripts and DAGs read."""
    kind = Decision if path.stem.endswith("Z") else Intervention
    found = kind.model_validate_json(path.read_bytes())
    assert found.model_dump_json(indent=2) == path.read_text(encoding="utf-8")
    if isinstance(found, Decision):
        assert (found.schema_version, found.looks, found.previous_entry) == (1, (), None)


def test_a_log_of_the_release_before_tells_what_happened() -> None:
    """Fails when an upgrade loses decisions, or no longer knows which version should be in service."""
    log = DecisionLog(open_folder(str(SCHEMA_1)), "fraud_detection")
    outcomes = {entry.outcome for entry in log.history() if isinstance(entry, Decision)}
    assert outcomes == set(Outcome) - {Outcome.NEEDS_REVIEW}  # which that release did not know
    assert len(log.history()) == len(LOG)
    last = log.last_change()
    assert isinstance(last, Intervention)
    assert last.to_version == 2


def test_tags_and_intents_of_the_release_before_are_read() -> None:
    """Fails when an upgrade forgets a pin, or cannot finish a promotion that was killed before it."""
    tags = json.loads((SCHEMA_1 / "tags.json").read_text(encoding="utf-8"))
    assert Pin.model_validate_json(tags["pin"]).to_version == 2
    assert Retirement.model_validate_json(tags["retirement"]).version == 1
    assert ModelVersionTags.from_tags(tags["version"]).training.frauds == 265
    intent = Intent.model_validate_json((SCHEMA_1 / "intent.json").read_bytes())
    assert intent.decision.outcome is Outcome.PROMOTED
    assert intent.decision.schema_version == 1


@pytest.mark.parametrize("root", [-1.5, math.inf, -math.inf, None])
def test_a_decision_with_looks_is_read_back_as_it_was_written(root: float | None) -> None:
    """Fails when a look that every card supports, or that measured nothing, breaks the log."""
    look = look_record(CANDIDATE.key, T, root=root)
    given = decision(
        Outcome.REFUSED,
        T,
        champion_version=1,
        schema_version=SCHEMA_VERSION,
        looks=(look,),
        opened=(CANDIDATE.key,),
        retired_candidates=(RetirementRecord(candidate=CANDIDATE.key, reason=RetirementReason.EXPIRED),),
        previous_entry="0" * 64,
    )
    text = given.model_dump_json(indent=2)
    assert Decision.model_validate_json(text) == given
    stored = json.loads(text)
    assert stored["schema_version"] == 2
    assert stored["looks"][0]["candidate"] == {"label_cutoff": "2026-03-01T00:00:00Z", "recipe": "recipe"}
    assert stored["retired_candidates"][0]["reason"] == "expired"
    assert look.key == LookKey(candidate=CANDIDATE.key, champion_version=1, number=1)


@pytest.mark.parametrize("probability", [0.1 + 0.2, 0.0, 1.0, math.inf])
def test_a_threshold_is_read_back_from_a_version_and_a_look_as_it_was_written(probability: float) -> None:
    """Fails when scoring alerts at another score than the one that was judged."""
    given = threshold(T, probability=probability)
    tags = ModelVersionTags(T, span(T, T), "0" * 64, threshold=given).as_tags()
    assert len(tags["threshold"]) < 5000  # which is all that MLflow keeps
    assert ModelVersionTags.from_tags(tags).threshold == given
    look = look_record(CANDIDATE.key, T, threshold=given)
    assert LookRecord.model_validate_json(look.model_dump_json()).threshold == given


def test_a_version_and_a_look_without_a_threshold_are_read_as_such() -> None:
    """Fails when an upgrade cannot load the champion of an earlier release, or writes its looks in another form."""
    tags = ModelVersionTags(T, span(T, T), "0" * 64).as_tags()
    assert "threshold" not in tags
    assert ModelVersionTags.from_tags(tags).threshold is None
    assert "threshold" not in json.loads(look_record(CANDIDATE.key, T).model_dump_json())


@pytest.mark.parametrize("content", ["", "0.5", '{"probability": 0.5}', "{"])
def test_a_damaged_threshold_is_refused_with_the_next_step(content: str) -> None:
    """Fails when a tag that somebody edited makes scoring alert at no score, or ends it without a hint."""
    tags = ModelVersionTags(T, span(T, T), "0" * 64).as_tags() | {"threshold": content}
    with pytest.raises(FraudDetectionError, match=r"its tag threshold is damaged .*; next: .*delete the tag"):
        ModelVersionTags.from_tags(tags)


def test_a_decision_without_looks_says_so() -> None:
    """Fails when a script that reads the looks of a decision finds none of the kind at times."""
    given = decision(Outcome.NO_DECISION, T, schema_version=SCHEMA_VERSION)
    stored = json.loads(given.model_dump_json())
    assert (stored["looks"], stored["opened"], stored["retired_candidates"]) == ([], [], [])
    assert "looks" not in json.loads(decision(Outcome.NO_DECISION, T).model_dump_json())


def test_an_opening_is_read_back_as_it_was_written() -> None:
    """Fails when a run that was killed cannot be finished with the looks that it was charged for."""
    first = LookKey(candidate=CANDIDATE.key, champion_version=None, number=1)
    given = opening(T, (CANDIDATE,), (first,))
    assert Opening.model_validate_json(given.model_dump_json(indent=2)) == given


def test_unknown_content_of_a_look_is_refused() -> None:
    """Fails when an entry of a newer release is half understood."""
    stored = json.loads(look_record(CANDIDATE.key, T).model_dump_json())
    with pytest.raises(ValidationError):
        LookRecord.model_validate({**stored, "surprise": 1})
    with pytest.raises(ValidationError):
        LookRecord.model_validate({**stored, "candidate": {**stored["candidate"], "surprise": 1}})


@pytest.mark.parametrize("empty", ["", " "])
def test_no_decision_is_without_a_reason(empty: str) -> None:
    """Fails when a run ends with `NO DECISION` and nothing behind it, or a log with such an entry is unreadable."""
    stored = decision(Outcome.NO_DECISION, T).model_dump(mode="json", by_alias=True) | {"reason": empty}
    assert Decision.model_validate_json(json.dumps(stored)).reason == "no reason was recorded"
