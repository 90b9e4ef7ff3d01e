"""A small part of `make prove`: the benchmark of the first champion, on two of its start dates."""

import pytest

from benchmarks import first_champion
from fraud_detection.settings import load_settings
from local_stack.settings import DEFAULTS, ROOT


@pytest.mark.slow
def test_the_first_run_of_the_stack_ends_with_a_champion() -> None:
    """Fails when `make up` ends without a champion on many dates, or promotes a model that has learned nothing."""
    found = list(first_champion.starts(2))
    assert len(found) == 2
    assert first_champion.failures(found) == []
    table = "\n".join(first_champion.report(found, load_settings(ROOT / DEFAULTS["TRAINING_SETTINGS"])))
    assert "| model | 2 | 0 | 0 | promoted on at least 59 of 60 |" in table
    assert "| amount | 0 | 2 | 0 | refused on at least 57 of 60 |" in table
