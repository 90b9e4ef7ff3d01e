"""When the champion's predecessor is compared with it again, and at what risk: the promotion rule with roles swapped.

The rows are later than those that promoted the champion, so its choice has not favoured it on them. They grow as
labels mature: look n is due when the frauds have grown by `GROWTH` since the one before, and spends risk / (n (n +
1)). The sum over all n of 1 / (n (n + 1)) is 1. So, by the union bound, a champion that is no worse is ever rolled
back with a probability of at most the risk. Pure.
"""

import math

from fraud_detection.promotion.sequential import HoldoutCounts, LookLimits, SequentialRule, limits_at_risk

GROWTH = 1.5
"""Looks closer to each other see almost the same evidence."""


def risk_of_look(risk: float, number: int) -> float:
    """The share of look `number`, from 1."""
    return risk / (number * (number + 1))


def due_look(counts: HoldoutCounts, taken: int, rule: SequentialRule) -> int | None:
    """The number of the look that is due, or None. After a pause those below it are not made up for.

    Args:
        counts: matured frauds later than the promotion, and their cards.
        taken: the number of the last look that was opened; 0 for none.
        rule: of promotions, which says what a first look needs.
    """
    if counts.fraud_cards < rule.minimum_fraud_cards or counts.frauds < rule.first_look_frauds:
        return None
    highest = 1 + math.floor(math.log(counts.frauds / rule.first_look_frauds, GROWTH) + 1e-9)
    return highest if highest > taken else None


def rollback_limits(fraud_cards: int, number: int, risk: float, rule: SequentialRule) -> LookLimits:
    """What the predecessor has to reach at look `number`: what a challenger would have to at the same risk."""
    return limits_at_risk(risk_of_look(risk, number), fraud_cards, rule)
