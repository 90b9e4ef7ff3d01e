"""The limits of chance are the quantiles of the negative binomial distribution, without SciPy's slow part."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from fraud_detection.data_health.drift import chance_limit
from fraud_detection.data_health.overdispersion import chance_limits


@pytest.mark.parametrize("tail", [1e-2, 1e-3, 1e-6, 1e-9, 1e-12])
def test_limits_are_the_quantiles_of_the_negative_binomial_distribution(tail: float) -> None:
    """Fails when a sound day is refused, or an unsound one passes, because a limit is off by one event."""
    random = np.random.default_rng(1)
    expected = np.concatenate([10 ** random.uniform(-12, 7, 3_000), [0.0, 1e-3, 1.0]])
    spread = np.concatenate([1 + 10 ** random.uniform(-8, 3, 3_000), [1.0, 1.0, 50.0]])
    success = 1.0 / np.maximum(spread, 1.0 + 1e-6)
    size = np.maximum(expected, 1e-12) * success / (1.0 - success)
    low, high = chance_limits(expected, spread, tail)
    np.testing.assert_array_equal(low, stats.nbinom.ppf(tail, size, success))
    np.testing.assert_array_equal(high, stats.nbinom.isf(tail, size, success))


def test_the_limit_of_drift_is_a_quantile_of_chi_squared() -> None:
    """Fails when drift is reported more or less often than by the probability that the settings name."""
    for bins in (2, 11, 200):
        expected = float((1 / 900 + 1 / 70) * stats.chi2.isf(1e-6, bins - 1))
        assert chance_limit(bins, 900, 70, 1e-6) == expected


def test_limits_are_known_without_all_distributions() -> None:
    """Fails when each run imports scipy.stats again, for a second of its time."""
    program = (
        "import sys, numpy as np, fraud_detection.data_health.drift as drift\n"
        "from fraud_detection.data_health.overdispersion import chance_limits\n"
        "drift.chance_limit(11, 900, 70, 1e-6), chance_limits(np.ones(1), np.ones(1), 1e-6)\n"
        "print('scipy.stats' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
