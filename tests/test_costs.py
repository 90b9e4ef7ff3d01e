"""What clusters cost and when a budget is used up: the DAG's own rules, without Airflow."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dag_rules import dag_module
from hypothesis import given
from hypothesis import strategies as st

RULE = dag_module("costs")
NOON = datetime(2026, 5, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
moments = st.integers(-48 * 60, 48 * 60).map(lambda minutes: NOON + minutes * MINUTE)


def span(name: str = "a-1", created_at: datetime = NOON, **changes: Any) -> Any:
    """A cluster of two hosts that costs 20 RUB an hour."""
    given: dict[str, Any] = {
        "run": name.rpartition("-")[0],
        "as_of": created_at.isoformat(),
        "hosts": {"s3-c4-m16": 2},
        "price_per_hour": 20.0,
        "currency": "RUB",
    }
    return RULE.ClusterSpan(name=name, created_at=created_at.isoformat(), **given | changes)


def ledger(*spans: Any) -> Any:
    return RULE.Ledger(tuple(spans))


@given(st.lists(st.tuples(moments, st.integers(0, 600), st.booleans()), max_size=6))
def test_the_days_add_up_to_what_the_clusters_cost(lives: list[tuple[datetime, int, bool]]) -> None:
    """Fails when a cluster over midnight is paid from no day's budget, or from two."""
    spans = [
        span(f"r{i}-1", begun, deleted_at=(begun + minutes * MINUTE).isoformat() if ended else None)
        for i, (begun, minutes, ended) in enumerate(lives)
    ]
    now = NOON + timedelta(days=3)
    total = RULE.Ledger(tuple(spans))
    days = [total.spent_on(NOON + timedelta(days=day), now, "RUB").amount for day in range(-3, 4)]
    runs = [total.spent_by(f"r{i}", now, "RUB").amount for i in range(len(spans))]
    assert sum(days) == pytest.approx(sum(runs))


@given(budget=st.floats(1, 500), minutes=st.integers(1, 59), hours=st.integers(1, 40))
def test_a_budget_is_exceeded_by_one_cluster_at_most(budget: float, minutes: int, hours: int) -> None:
    """Fails when hourly runs go on after the money of the day is spent, or stop before, or do not begin again."""
    found, midnight = ledger(), NOON - 12 * HOUR
    for hour in range(hours):
        begun = midnight + hour * HOUR
        before = found.spent_on(begun, begun, "RUB").amount
        if (found.reason_to_stop(budget, "RUB", begun) is None) is not (before < budget):
            pytest.fail("stopped at the wrong time")
        if before < budget:
            found = found.opened(span(f"h{hour}-1", begun), begun).seen(f"h{hour}-1")
            found = found.closed(f"h{hour}", begun + minutes * MINUTE)
    end = midnight + hours * HOUR
    assert found.spent_on(NOON, end, "RUB").amount < budget + 20 * minutes / 60 + 1e-6
    assert hours <= 24 or any(one.name == "h24-1" for one in found.clusters), "a new day has a new budget"


def test_a_cluster_in_the_middle_counts_by_its_running_time() -> None:
    """Fails when a run that was killed costs nothing, and the budget never ends."""
    found = ledger().opened(span(), NOON)
    assert found.spent_on(NOON, NOON + 3 * HOUR, "RUB").amount == pytest.approx(60)
    assert found.reason_to_stop(60, "RUB", NOON + 3 * HOUR) is not None


def test_a_refused_request_costs_nothing_and_a_lost_cluster_does() -> None:
    """Fails when refused requests use a budget up, or a cluster whose run was lost is free."""
    refused = ledger().opened(span(), NOON).settled(set(), NOON + 5 * MINUTE)
    assert refused.clusters == ()
    lost = ledger().opened(span(), NOON).settled(set(), NOON + HOUR)
    assert lost.spent_by("a", NOON + 9 * HOUR, "RUB").seconds == 3600
    found_later = ledger().opened(span(), NOON).settled({"a-1"}, NOON + MINUTE).settled(set(), NOON + 5 * MINUTE)
    assert found_later.spent_by("a", NOON + 9 * HOUR, "RUB").seconds == 300


def test_another_run_is_settled_by_its_own_listing() -> None:
    """Fails when a run closes the cluster of another, which goes on."""
    both = ledger(span("a-1", seen=True), span("b-1", seen=True)).settled(set(), NOON + HOUR, "a")
    assert [one.name for one in both.open] == ["b-1"]


def test_a_paused_dag_costs_no_more_than_its_cluster() -> None:
    """Fails when the teardown of a DAG that was paused for a night counts the night."""
    found = ledger(span(seen=True)).deletion_requested("a", NOON + HOUR).settled(set(), NOON + 9 * HOUR, "a")
    assert found.spent_by("a", NOON + 9 * HOUR, "RUB").seconds == 3600 + RULE.DELETION.total_seconds()


def test_a_second_try_is_a_second_cluster_and_an_adopted_one_is_not() -> None:
    """Fails when a cluster that failed is free, or one that is taken over is paid twice."""
    found = ledger().opened(span("a-1"), NOON).opened(span("a-2", NOON + HOUR), NOON + HOUR)
    found = found.opened(span("a-1", NOON + HOUR, seen=True), NOON + HOUR).seen("a-2").closed("a", NOON + 2 * HOUR)
    assert found.spent_by("a", NOON + 9 * HOUR, "RUB").host_hours == 2 * 2 + 2 * 1


@given(st.lists(moments, unique=True, max_size=5), st.text(max_size=10))
def test_the_variable_keeps_what_is_written(times: list[datetime], announced: str) -> None:
    """Fails when the costs of the day are lost between two tasks."""
    found = RULE.Ledger(tuple(span(f"{i}-1", at) for i, at in enumerate(times)), announced)
    assert RULE.Ledger.parse(found.text) == found


@pytest.mark.parametrize("text", ["[]", "{", '{"clusters": [{"name": "a"}], "announced": ""}'])
def test_a_variable_that_was_edited_is_refused(text: str) -> None:
    """Fails when a damaged record reads as a day without costs."""
    with pytest.raises(ValueError, match="next: restore it, or delete it"):
        RULE.Ledger.parse(text)


def test_the_variable_does_not_grow() -> None:
    """Fails when a year of runs fills the variable, or a cluster that may exist is dropped from it."""
    found = ledger(span("open-1", NOON - timedelta(days=40)))
    for day in range(40):
        at = NOON + timedelta(days=day)
        found = found.opened(span(f"d{day}-1", at, seen=True), at).closed(f"d{day}", at + HOUR)
    assert len(found.clusters) == 1 + 9, "the open one, and those of the last eight days and the run"
    assert found.open


def test_hosts_without_a_price_are_named() -> None:
    """Fails when a new preset is charged at the price of the old one, or preemptible hosts at that of others."""
    prices = RULE.Prices("RUB", {"s3-c4-m16": 9.5})
    plain = RULE.hosts_of("s3-c4-m16", "s3-c4-m16", 3, preemptible=False)
    assert (plain, prices.of_an_hour(plain)) == ({"s3-c4-m16": 4}, 38.0)
    mixed = RULE.hosts_of("s3-c4-m16", "s3-c4-m16", 3, preemptible=True)
    assert mixed == {"s3-c4-m16": 1, "s3-c4-m16 preemptible": 3}
    assert prices.of_an_hour(mixed) is None
    assert prices.missing(mixed) == ["host_prices['s3-c4-m16 preemptible']"]
    assert RULE.Prices().missing(plain) == ["host_prices['s3-c4-m16']", "currency"]


def test_the_reason_says_what_was_spent_and_what_to_do() -> None:
    """Fails when people see a skipped run and not what it waits for."""
    reason = ledger(span(deleted_at=(NOON + HOUR).isoformat())).reason_to_stop(15, "RUB", NOON + 2 * HOUR)
    assert "cost 20.00 RUB (1.00 cluster hours, 2.00 host hours) of 15.00 RUB" in reason
    assert "until 00:00 UTC; next: raise daily_budget" in reason
    unpriced = ledger(span(price_per_hour=None)).spent_on(NOON, NOON + HOUR, "RUB")
    assert unpriced.text.endswith("without 1 cluster(s) that have no price)")
    assert ledger(span()).spent_on(NOON, NOON + HOUR, "").text == "1.00 cluster hours, 2.00 host hours"


def test_the_job_is_told_the_price_of_its_newest_cluster() -> None:
    """Fails when a decision records the cost of another run's cluster, or of one that has failed, or has no price."""
    told = ["--cost-per-hour", "20.0", "--currency", "RUB", "--cost-since", (NOON + MINUTE).isoformat()]
    failed = span("a-1", deleted_at=(NOON + MINUTE).isoformat())
    found = ledger(failed, span("a-2", NOON + MINUTE), span("b-1", NOON + HOUR))
    assert found.job_options("a") == told
    assert found.job_options("c") == []
    assert ledger(failed).job_options("a") == []
    assert ledger(span(price_per_hour=None)).job_options("a") == []
