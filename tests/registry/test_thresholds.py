"""A version alerts from the score on that its own look was fitted to."""

import pytest
from factories import look_record, threshold
from fakes.candidates import FIRST, A, B
from fakes.registry import NAME, T0, T1, T2, T3, World

from fraud_detection.registry import load_champion
from fraud_detection.schema import Outcome
from fraud_detection.settings import Promotion

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def test_a_promotion_brings_its_threshold(empty: World) -> None:
    """Fails when the new champion alerts at no score, or at the score of another model."""
    given, other = threshold(T0, probability=0.07), threshold(T0, probability=0.01)
    winner = look_record(FIRST, T1, threshold=given, passed=True, champion_version=None)
    loser = look_record(FIRST, T1, threshold=other, root=9.0)
    empty.record(Outcome.PROMOTED, T1, looks=(loser, winner), schema_version=2)
    champion = empty.registry.champion()
    assert champion is not None
    assert champion.threshold == given
    assert load_champion(empty.tracking_uri, NAME).threshold == given
    assert champion.version == 1


def test_a_champion_without_a_threshold_serves(served: World) -> None:
    """Fails when an upgrade stops with the champion of an earlier release, which has no threshold."""
    champion = served.registry.champion()
    assert champion is not None
    assert champion.threshold is None


@pytest.mark.parametrize("approved", [True, False])
def test_a_person_promotes_a_candidate_with_the_threshold_of_its_newest_look(waiting: World, approved: bool) -> None:
    """Fails when a model that a person brings into service alerts at an outdated score, or at none."""
    for at, score in ((T2, 0.03), (T3, 0.04)):
        look = look_record(FIRST, at, threshold=threshold(T0, probability=score), passed=True, champion_version=1)
        late = look_record(FIRST, at, passed=False)  # measured nothing
        waiting.record(Outcome.NEEDS_REVIEW, at, looks=(late, look), schema_version=2)
    if approved:
        waiting.registry.approve(A, "better", "anna", Promotion.model_validate({"mode": "approval"}))
    else:
        waiting.registry.promote(A, "better", "anna")
    champion = waiting.registry.champion()
    assert champion is not None
    assert champion.threshold is not None
    assert champion.threshold.probability == 0.04


def test_an_override_of_a_candidate_without_a_look_has_no_threshold(waiting: World) -> None:
    """Fails when an emergency cannot bring a model into service because nothing says when it alerts."""
    waiting.registry.promote(B, "the champion misses the new fraud", "anna")
    champion = waiting.registry.champion()
    assert champion is not None
    assert champion.threshold is None
