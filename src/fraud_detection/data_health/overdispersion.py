"""How far a count may be from its expectation by chance, where events come in clusters.

Frauds come in series on cards, and transactions in crowds, so their counts vary more than Poisson's. The variance is
taken as proportional to the mean (quasi-Poisson), and the negative binomial distribution with that mean and variance
gives the tails. References: McCullagh and Nelder, Generalized Linear Models, 2nd edition, 9.2 (1989); Ver Hoef and
Boveng, Quasi-Poisson vs. negative binomial regression, Ecology 88 (2007).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fraud_detection.data_health.counts import Floats

_POISSON = 1.0 + 1e-6  # where the negative binomial distribution is as good as Poisson's
_NOTHING = 1e-12
_QUARTILE = 0.6744897501960817  # of the standard normal distribution
_QUARTILES_ERROR = 1.1664
_ONE_SIDED = 1.6449  # the 95 % quantile of the standard normal distribution


def middle_rate(events: Floats, exposure: Floats) -> float:
    """Events per unit of exposure in the middle half of the days, which single odd days do not move.

    The quarter of the days with the lowest and that with the highest rates are left out. NaN without any exposure.
    """
    used = exposure > 0
    events, exposure = events[used], exposure[used]
    order = np.argsort(events / exposure, kind="stable")
    cut = len(order) // 4
    middle = order[cut : len(order) - cut]
    total = exposure[middle].sum()
    return float(events[middle].sum() / total) if total > 0 else float("nan")


def dispersion(events: Floats, expected: Floats) -> float:
    """The variance of counts as a multiple of their mean, at least Poisson's 1; odd days hardly move it.

    From the quartiles of the Pearson residuals, whose estimate of a standard deviation has the relative standard error
    1.17/√n. The one-sided 95 % upper bound is taken, since few days may look alike by chance.
    """
    used = expected > 0
    if not used.any():
        return 1.0
    residual = (events[used] - expected[used]) / np.sqrt(expected[used])
    low, high = np.quantile(residual, [0.25, 0.75])
    bound = np.exp(_ONE_SIDED * 2 * _QUARTILES_ERROR / np.sqrt(len(residual)))
    return float(max(1.0, bound * ((high - low) / (2 * _QUARTILE)) ** 2))


def chance_limits(expected: Floats, spread: Floats, tail: float) -> tuple[Floats, Floats]:
    """The counts between which chance alone stays, except with the probability `tail` on each side.

    Args:
        expected: the means.
        spread: the variances as multiples of the means.
        tail: a small probability.
    """
    from scipy import special  # not scipy.stats, whose import takes a second of each run

    mean = np.maximum(expected, _NOTHING)
    success = 1.0 / np.maximum(spread, _POISSON)
    size = mean * success / (1.0 - success)
    low = _smallest(
        special.nbdtrik(tail, size, success), lambda count: special.betainc(size, count + 1.0, success) >= tail
    )
    high = _smallest(
        special.nbdtrik(1.0 - tail, size, success),
        lambda count: special.betainc(count + 1.0, size, 1.0 - success) <= tail,
    )
    return low, high


def _smallest(root: Floats, reached: Callable[[Floats], NDArray[np.bool_]]) -> Floats:
    """The smallest counts that satisfy a condition, given the real numbers from which it holds, which are rounded."""
    count = np.maximum(np.ceil(root), 0.0)
    below = np.maximum(count - 1.0, 0.0)
    return np.where(reached(below), below, np.where(reached(count), count, count + 1.0))
