"""Average precision (AP) of the champion on rows whose labels have not matured, estimated in two ways.

Both weight a row by how much fraud it is expected to stand for. With weights w, N_i rows at or above the score of row i
(in any order, equal scores are one step) and S_i the sum of their weights, row i included:

    AP ≈ Σ w_i (1 + S_i − w_i) / N_i  /  Σ w_i

Numerator and denominator are unbiased if the weight of a row has the expectation of its label and rows are independent:
1 stands in the place of w_i in S_i, since a fraud is surely at or above its own score. The bias of their ratio is of
the order of one over the frauds. With labels as weights it is AP itself.

These are estimates for monitoring, and no evidence for a promotion: a look waits for matured labels.

References:
    Aslam, Pavlu, Yilmaz, A statistical method for system evaluation using incomplete judgments (2006), on AP from
        labels with known probabilities of being seen.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.card_contributions import score_ranks

Floats = NDArray[np.float64]

LEAST_KNOWN_SHARE = 0.1
"""Rows of which a smaller share of the frauds is known are left out: each would stand for more than ten."""


def expected_average_precision(probability: ArrayLike) -> float:
    """The AP that a model's own probabilities promise, without any label; NaN without a probability above 0.

    It holds as far as the probabilities are calibrated on these rows, and cannot find out whether they are. It follows
    a change in the mix of transactions, and misses a change of what fraud looks like: a model that is blind to a new
    kind of fraud gives it low probabilities and promises what it did before, and one whose probabilities are twice too
    high promises too much.

    Args:
        probability: of fraud, in [0, 1], shape (rows,).

    References:
        NannyML, Confidence-based performance estimation (2022).
    """
    values = np.asarray(probability, np.float64)
    return _weighted_average_precision(values, values)


def provisional_average_precision(
    known_fraud: ArrayLike, score: ArrayLike, known_share: ArrayLike, least_share: float = LEAST_KNOWN_SHARE
) -> float:
    """The AP from the frauds that are known early, each weighted by the inverse of the chance to be known by now.

    Inverse probability of censoring weighting: of the frauds of an age a the share F(a) is known, so each known one
    stands for 1 / F(a). Rows that are too young are left out. It is NaN without a known fraud.

    It assumes that delays are as they were when F was measured, and do not depend on the score. Where alerts are
    investigated at once, high scores become known first, and it is too high. Frauds that never become known are missing
    in it, as they are among matured labels.

    Args:
        known_fraud: 1 where a fraud is known, 0 for any other row, shape (rows,).
        score: finite, larger = more suspicious; only the ranking matters.
        known_share: F at the age of each row; see `share_known`.
        least_share: rows with a smaller F are left out.

    Raises:
        ValueError: `least_share` is not positive.

    References:
        Robins, Rotnitzky, Recovery of information and adjustment for dependent censoring using surrogate markers
            (1992).
        Yuan, Zhou, Li, Cai, Chow, Armstrong, A threshold-free summary index of prediction accuracy for censored time
            to event data (2018), on AP with these weights.
        Yasui, Morishita, Fujita, Shibata, A feedback shift correction in predicting conversion rates under delayed
            feedback (2020).
    """
    if not least_share > 0:
        raise ValueError(f"least_share is {least_share}; expected a share above 0, since its inverse is a weight")
    share = np.asarray(known_share, np.float64)
    old = share >= least_share
    weight = (np.asarray(known_fraud) == 1)[old] / share[old]
    return _weighted_average_precision(weight, np.asarray(score)[old])


def share_known(age_hours: ArrayLike, delay_hours: ArrayLike, frauds: ArrayLike | None = None) -> Floats:
    """The distribution F of label delays at some ages: which share of the frauds of that age is known, (ages,).

    Args:
        age_hours: of the rows, now.
        delay_hours: of frauds of rows that are old enough for their labels to have arrived, at least one; of younger
            rows only the short delays are known, and F would be too high.
        frauds: how many each delay stands for; None for one each.

    Raises:
        ValueError: there are no delays.
    """
    delays = np.asarray(delay_hours, np.float64)
    order = np.argsort(delays, kind="stable")
    counts = np.ones(len(delays)) if frauds is None else np.asarray(frauds, np.float64)
    known = np.concatenate([[0.0], np.cumsum(counts[order])])
    if not known[-1] > 0:
        raise ValueError("there are no label delays; expected those of frauds whose labels have matured")
    ages = np.asarray(age_hours, np.float64)
    shares: Floats = known[np.searchsorted(delays[order], ages, side="right")] / known[-1]
    return shares


def _weighted_average_precision(weight: Floats, score: ArrayLike) -> float:
    """AP where a row is a fraud with an expected weight; NaN where no row has any."""
    total = float(weight.sum())
    if not total > 0:
        return float("nan")
    rank, count = score_ranks(score)
    by_rank = np.bincount(rank, weights=weight, minlength=count)
    above = np.cumsum(by_rank[::-1])[::-1]
    rows = np.cumsum(np.bincount(rank, minlength=count)[::-1])[::-1]
    return float(np.sum(weight * (1.0 + above[rank] - weight) / rows[rank]) / total)
