"""What a run records of its cost."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from factories import decision

from fraud_detection.cli import main
from fraud_detection.runs.request import ClusterPrice
from fraud_detection.schema import Decision, Outcome

T = datetime(2026, 4, 20, 7, tzinfo=UTC)
PRICE = ClusterPrice(19.28, "RUB", T)


def test_the_cost_is_the_time_of_the_cluster_at_its_price() -> None:
    """Fails when a decision says another cost than hours times price, or a negative one where clocks disagree."""
    cost = PRICE.cost_until(T + timedelta(minutes=6))
    assert (cost.amount, cost.currency, cost.seconds, cost.price_per_hour) == (1.928, "RUB", 360.0, 19.28)
    assert PRICE.cost_until(T - timedelta(minutes=1)).amount == 0.0


def test_a_decision_without_a_cost_is_stored_as_before() -> None:
    """Fails when an entry of a log that knows no costs is written with other bytes, and its digest breaks the chain."""
    without = decision(Outcome.NO_DECISION, T)
    assert "cost" not in without.model_dump(mode="json")
    assert Decision.model_validate_json(without.model_dump_json()) == without
    priced = without.model_copy(update={"cost": PRICE.cost_until(T + timedelta(hours=1))})
    assert Decision.model_validate_json(priced.model_dump_json()) == priced
    assert priced.model_dump(mode="json")["cost"]["amount"] == 19.28


@pytest.mark.parametrize(
    "given",
    [("--cost-per-hour", "2"), ("--currency", "RUB"), ("--cost-per-hour", "2", "--cost-since", "2026-04-20T07:00")],
)
def test_half_a_price_is_refused(given: tuple[str, ...]) -> None:
    """Fails when a decision is made without the cost that its installation wanted recorded, and does not say so."""
    result = CliRunner().invoke(main, ["retrain", "--input", "x", *given])
    assert result.exit_code == 2
    assert "--cost-per-hour, --currency and --cost-since go together" in result.output
