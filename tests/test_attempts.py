"""How many runs may fail before scheduled ones are skipped: the DAG's own rule, without Airflow."""

import pytest
from dag_rules import dag_module
from hypothesis import given
from hypothesis import strategies as st

RULE = dag_module("attempts")


@given(limit=st.integers(1, 5), hours=st.integers(0, 40))
def test_a_fault_costs_as_many_clusters_as_the_limit(limit: int, hours: int) -> None:
    """Fails when a fault that lasts a weekend costs more clusters than the setting allows, or fewer."""
    attempts, clusters = RULE.Attempts(), 0
    for hour in range(hours):
        if attempts.reason_to_skip(f"scheduled__{hour}", limit) is None:
            attempts, clusters = attempts.begun(f"scheduled__{hour}", forced=False), clusters + 1
    assert clusters == min(limit, hours)


@given(runs=st.lists(st.text(), max_size=5), run=st.text(), announced=st.booleans())
def test_the_variable_keeps_what_is_written(runs: list[str], run: str, announced: bool) -> None:
    """Fails when the count is lost between two runs, and every hour costs a cluster."""
    attempts = RULE.Attempts(tuple(runs), announced)
    assert RULE.Attempts.parse(attempts.text) == attempts
    assert RULE.Attempts.parse(attempts.begun(run, forced=True).text).runs == (run,)


def test_a_run_that_is_cleared_does_not_count_against_itself() -> None:
    """Fails when the last permitted run cannot be retried by clearing it."""
    attempts = RULE.Attempts().begun("a", forced=False)
    assert attempts.reason_to_skip("a", 1) is None
    assert attempts.begun("a", forced=False).runs == ("a",)


@pytest.mark.parametrize("text", [None, ""])
def test_the_first_run_begins(text: str | None) -> None:
    """Fails when the very first run finds no variable and stops."""
    assert RULE.Attempts.parse(text).reason_to_skip("a", 1) is None


def test_the_reason_says_how_many_and_what_to_do() -> None:
    """Fails when people see a skipped run and not what ends it."""
    reason = RULE.Attempts(("a", "b")).reason_to_skip("c", 2)
    assert "last 2 runs" in reason
    assert "next: fix the cause, which their logs show, then trigger the run with force" in reason
