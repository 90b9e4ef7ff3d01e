"""How significant a difference is whose parts, one of each card, are few and far from normal.

The empirical likelihood ratio compares the weights of the cards under which they sum to zero with equal weights. Its
signed root is about standard normal if the true difference is zero, as difference / standard error is; but it takes the
skewness of the contributions into account. Where the gain lies on few cards it finds more, where the loss lies on few
cards it asks for more.

What no card of the sample has shown, no such ratio can see: that is what `unseen_card_bound` is for.

References:
    Owen, Empirical likelihood ratio confidence intervals for a single functional (1988).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.card_contributions import CardContributions

Floats = NDArray[np.float64]

_STEPS = 100  # Newton's method takes about eight; halving, where it has to take over, about fifty
_TOLERANCE = 1e-12
_DUST = 1e-15  # of the largest contribution: smaller ones are rounding, and count as none


def signed_root(contribution: ArrayLike) -> float:
    """The signed root of the empirical likelihood ratio that the contributions sum to zero in truth.

    sqrt(2 · max over λ of Σ ln(1 + λ · contribution)) with the sign of their sum; 0 where they sum to 0, infinite
    where no contribution has the other sign. Neither their order nor their unit matters, and the negative contributions
    give the negative root.
    """
    x = np.sort(np.asarray(contribution, np.float64))
    total = math.fsum(x)
    if total == 0.0:
        return 0.0
    return _fit(x)[0] if total > 0.0 else -_fit(np.sort(-x))[0]


def lower_bound(contributions: CardContributions, root: float) -> float:
    """The largest difference that would still be exceeded with a signed root of at least `root` (> 0); at least −1.

    For a supposed difference d each card is expected to contribute d · its frauds / all frauds. Upper bounds are the
    negative of this one with swapped roles.
    """
    x, share = contributions.contribution, contributions.frauds / contributions.total_frauds
    low, high = -1.0, contributions.difference
    bound = high - root * math.sqrt(float(np.sum(np.square(x - high * share))))
    for _ in range(_STEPS):
        if not low < bound < high:
            bound = (low + high) / 2.0
        moved = x - bound * share
        found, tilt = _fit(moved)
        low, high = (bound, high) if found >= root else (low, bound)
        if high - low <= _TOLERANCE or abs(found - root) <= _TOLERANCE:
            break
        if math.isfinite(found):
            slope = tilt * float(np.sum(share / (1.0 + tilt * moved))) / found
            bound += (found - root) / slope
        else:
            bound = math.nan  # halve
    return bound


def required_root(risk: float, fraud_cards: int) -> float:
    """The signed root that equal models exceed with a probability of `risk`; infinite with fewer than two fraud cards.

    A quantile of Student's distribution: few cards say little about how much cards vary.
    """
    from scipy.special import stdtrit

    return float(-stdtrit(fraud_cards - 1, risk)) if fraud_cards > 1 else math.inf


def unseen_card_bound(risk: float, fraud_cards: int) -> float:
    """ln(1/risk) / fraud_cards: the most that a pattern of fraud can cost which none of these cards has shown.

    If a share q of the fraud cards has it, then F cards miss it with probability (1 − q)^F ≤ exp(−q·F). At the bound
    that is `risk`; and of AP it can cost at most its share of the frauds.
    """
    return math.log(1.0 / risk) / fraud_cards if fraud_cards else math.inf


def _fit(x: Floats) -> tuple[float, float]:
    """The root for values with a positive sum, and the λ at which it is reached."""
    least = -float(x.min())
    if least <= _DUST * float(x.max()):
        return math.inf, math.inf
    z = x / least
    tilt = _tilt(z)
    return math.sqrt(2.0 * max(0.0, float(np.sum(np.log1p(tilt * z))))), tilt / least


def _tilt(z: Floats) -> float:
    """The u in [0, 1) with Σ z / (1 + u·z) = 0, for z of minimum −1 and positive sum.

    That sum falls in u, so each step narrows an interval: by Newton's method, or where that leaves it by halves.
    """
    positive = int(np.count_nonzero(z > 0.0))
    low, high = 0.0, positive / (positive + 1.0)  # at the solution 1 / (1 - u) ≤ positive / u
    tilt = 0.0
    for _ in range(_STEPS):
        ratio = z / (1.0 + tilt * z)
        slope, curvature = float(np.sum(ratio)), float(np.sum(ratio * ratio))
        low, high = (tilt, high) if slope > 0.0 else (low, tilt)
        step = slope / curvature
        if abs(step) <= _TOLERANCE * (1.0 - tilt):
            break
        tilt += step
        if not low < tilt < high:
            tilt = (low + high) / 2.0
    return tilt
