"""A champion that is worse than its predecessor is rolled back by the rule, once, and not against a person."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import decision, rollback_look
from fakes.registry import T0, T1, T2, T3, World
from fakes.registry_processes import ALL, Process, Stage
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.decision_log import Action, Intervention
from fraud_detection.registry.predecessor import AUTOMATIC_ROLLBACK, Predecessor, find_predecessor, rollback_due
from fraud_detection.schema import Decision, Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def _found_worse(here: World, **changes: Any) -> Decision:
    """A run decides that version 1 is better than champion 2."""
    return here.record(Outcome.REFUSED, T2, schema_version=2, rollback_look=rollback_look(T2, **changes))


def _rollbacks(here: World) -> list[Intervention]:
    return [e for e in here.log.history() if isinstance(e, Intervention) and e.action is Action.ROLLBACK]


def test_the_predecessor_is_put_back_and_pinned_with_the_figures(two: World) -> None:
    """Fails when a worse champion stays, or is promoted again the next hour, or the log does not say why it left."""
    assert _found_worse(two).rollback_look == rollback_look(T2)
    done = two.registry.roll_back_automatically()
    assert done is not None
    assert (done.action, done.who, done.from_version, done.to_version) == (Action.ROLLBACK, AUTOMATIC_ROLLBACK, 2, 1)
    assert "v1 is better than v2 by +0.100 AP on 600 transactions with 60 frauds on 60 cards" in done.reason
    assert two.aliases() == {"champion": 1, "previous_champion": 2}
    pin = two.registry.pinned()
    assert pin is not None
    assert (pin.who, pin.from_version, pin.to_version) == (AUTOMATIC_ROLLBACK, 2, 1)
    assert two.record(Outcome.PROMOTED, T3, seed=3).outcome is Outcome.REFUSED
    assert two.registry.roll_back_automatically() is None, "once"
    assert _rollbacks(two) == [done]
    two.registry.verified_log()


def test_a_champion_that_is_not_found_worse_stays(two: World) -> None:
    """Fails when a look that did not pass, or a decision without one, rolls back."""
    two.record(Outcome.REFUSED, T2)
    assert two.registry.roll_back_automatically() is None
    two.record(Outcome.REFUSED, T3, schema_version=2, rollback_look=rollback_look(T3, passed=False))
    assert two.registry.roll_back_automatically() is None
    assert two.aliases() == {"champion": 2, "previous_champion": 1}


PEOPLE: list[Callable[[World], object]] = [
    lambda here: here.registry.pin("the audit", "anna"),
    lambda here: here.registry.rollback(1, "alerts doubled", "anna"),
    lambda here: here.registry.retire(2, "the schema changed", "anna"),
    lambda here: (here.registry.pin("the audit", "anna"), here.registry.unpin("it is over", "anna")),
]


@pytest.mark.parametrize("meanwhile", PEOPLE, ids=["pin", "rollback", "retire", "unpin"])
def test_what_a_person_does_meanwhile_goes_first(two: World, meanwhile: Callable[[World], object]) -> None:
    """Fails when the rule overrules a person who acted between the decision and the rollback."""
    _found_worse(two)
    meanwhile(two)
    before, names = two.aliases(), two.log.names()
    assert two.registry.roll_back_automatically() is None
    assert (two.aliases(), two.log.names()) == (before, names)


def test_a_predecessor_that_is_lost_leaves_the_champion_in_service(two: World) -> None:
    """Fails when a rollback puts a model into service that nothing can load."""
    _found_worse(two, key={"champion_version": 2, "predecessor_version": 7, "number": 1})
    with pytest.raises(FraudDetectionError, match="version 7"):
        two.registry.roll_back_automatically()
    assert two.aliases() == {"champion": 2, "previous_champion": 1}
    assert two.registry.pinned() is None


@pytest.mark.usefixtures("steps")
def test_a_rollback_that_is_killed_anywhere_is_made_once(tmp_path: Path) -> None:
    """Fails when a kill leaves half a rollback, loses it, or the next run makes it twice."""
    for place in range(100):
        output = tmp_path / str(place)
        stage = Stage(lambda output=output: open_folder(str(output)), frozen=True)  # type: ignore[misc]
        look = rollback_look(T1)
        given_ = decision(Outcome.REFUSED, T1, 2, decided_at=stage.clock.now(), schema_version=2, rollback_look=look)
        assert stage.log.write(given_)
        process = Process(stage.registry().roll_back_automatically)
        process.advance(place)  # then nothing more is heard of it
        ended = process.ended
        stage.resume()
        stage.registry().roll_back_automatically()
        done = [entry for entry in stage.log.history() if isinstance(entry, Intervention)]
        assert [(one.action, one.from_version, one.to_version) for one in done] == [(Action.ROLLBACK, 2, 1)], place
        assert stage.client.aliases == {"champion": 1, "previous_champion": 2}, process.at
        if ended:
            return
        process.advance(ALL)
    pytest.fail("the rollback never ended")


def _promotion(at: int, version: int, compared: int | None) -> Decision:
    made = decision(Outcome.PROMOTED, T0, compared)
    return made.model_copy(update={"version": version, "decided_at": T1, "as_of": T0.replace(hour=at)})


def _act(action: Action, old: int | None, new: int | None) -> Intervention:
    named = {"action": action, "model_name": "m", "at": T1, "who": "anna", "reason": "r", "pinned_at": T1}
    return Intervention(**named, from_version=old, to_version=new)


def test_the_predecessor_is_the_version_that_the_champion_replaced() -> None:
    """Fails when the champion is compared on the rows that promoted it, or with a version that it never met."""
    found = find_predecessor((_promotion(1, 1, None), _promotion(2, 2, 1)), 2)
    assert isinstance(found, Predecessor)
    assert (found.version, found.champion_version) == (1, 2)
    assert found.judged_until == _promotion(2, 2, 1).holdout.end


FIRST, SECOND = _promotion(1, 1, None), _promotion(2, 2, 1)


@pytest.mark.parametrize(
    ("history", "champion", "why"),
    [
        ((FIRST,), 1, "has no predecessor"),
        ((FIRST, _act(Action.PROMOTE, 1, 2)), 2, "by a person"),
        ((FIRST, _act(Action.APPROVE, 1, 2)), 2, "by a person"),
        ((FIRST, SECOND, _act(Action.ROLLBACK, 2, 1)), 1, "by a person"),
        ((FIRST, SECOND, _act(Action.ROLLBACK, 2, 1), _promotion(3, 3, 1)), 3, "because of a rollback"),
        ((FIRST, _act(Action.RETIRE, 1, None), _act(Action.ROLLBACK, None, 1), _promotion(3, 3, 1)), 3, "was retired"),
    ],
)
def test_no_rule_returns_to_what_a_person_has_settled(history: tuple[Any, ...], champion: int, why: str) -> None:
    """Fails when two versions take turns, or a retired model serves again, or an override is overruled."""
    found = find_predecessor(history, champion)
    assert isinstance(found, str)
    assert why in found


@given(passed=st.booleans(), outcome=st.sampled_from(Outcome), later=st.booleans())
def test_a_rollback_is_due_only_while_its_decision_is_the_newest(passed: bool, outcome: Outcome, later: bool) -> None:
    """Fails when an old finding rolls back a champion that was judged since, or one that just came."""
    made = decision(outcome, T1, 2, schema_version=2, rollback_look=rollback_look(T1, passed=passed))
    newest = _act(Action.PIN, 2, 2) if later else made
    assert (rollback_due(newest) is made) is (passed and not later and outcome is not Outcome.PROMOTED)
