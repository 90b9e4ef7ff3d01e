"""Average precision with its interval on one set of rows, for people to look at: no decision rests on it.

References:
    Owen, Empirical likelihood (2001), on influence functions.
    Cochran, Sampling techniques (1977), on the standard error of a total of clusters.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from fraud_detection.evaluation.assessment import SHOWN_CONFIDENCE
from fraud_detection.evaluation.card_contributions import average_precision_influence, card_codes, sum_by_card
from fraud_detection.schema import Estimate


def estimate_average_precision(fraud: ArrayLike, score: ArrayLike, card: ArrayLike | None) -> Estimate | None:
    """AP with its interval, from what each card adds to it; None without frauds.

    SE² = n / (n − 1) · Σ (x − AP · f / F)² over the n cards, with x the sum of a card's influence and f / F its share
    of the frauds, since AP is a mean over frauds. The interval is AP ± t · SE, with t Student's quantile for as many
    degrees of freedom as there are cards with a fraud, less one; without bounds where one card has all frauds.

    Args:
        fraud: 0 or 1, shape (rows,).
        score: finite, shape (rows,).
        card: of each row; None where the data have no cards.
    """
    from scipy.special import stdtrit

    frauds = np.asarray(fraud) == 1
    if not frauds.any():
        return None
    codes, cards = card_codes(card, len(frauds))
    by_card = sum_by_card(average_precision_influence(frauds, score), codes, cards)
    frauds_of = np.bincount(codes[frauds], minlength=cards)
    fraud_cards = int(np.count_nonzero(frauds_of))
    value = math.fsum(by_card)
    if fraud_cards < 2:
        return Estimate(value=value, low=None, high=None, confidence=SHOWN_CONFIDENCE)
    variance = math.fsum(np.square(by_card - value * frauds_of / frauds_of.sum())) * cards / (cards - 1)
    half = float(stdtrit(fraud_cards - 1, (1.0 + SHOWN_CONFIDENCE) / 2.0)) * math.sqrt(variance)
    return Estimate(value=value, low=max(value - half, 0.0), high=min(value + half, 1.0), confidence=SHOWN_CONFIDENCE)
