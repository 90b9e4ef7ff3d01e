"""A slow reference implementation of the features: for each transaction, scan all others by the definitions.

What the kernels compute by sorting and cumulative sums must equal this.
"""

import math
from dataclasses import dataclass

DAY = 86_400_000_000
NAN = math.nan


@dataclass(frozen=True)
class Transaction:
    """Times in microseconds; `fraud` is what is recorded, `available` when that label came (None: not recorded).

    `earlier` are the labels before that one, each with when it came, oldest first.
    """

    id: int
    time: int
    card: int
    terminal: int
    cents: int
    fraud: bool = False
    available: int | None = None
    earlier: tuple[tuple[int | None, bool], ...] = ()


def card_features(tx: Transaction, everything: list[Transaction]) -> dict[str, float]:
    """Features of one transaction against its card."""
    before = _before(tx, everything)
    features: dict[str, float] = {}
    for days in (1, 7, 30):
        window = [other for other in before if other.time > tx.time - days * DAY] + [tx]
        features[f"card_count_{days}d"] = len(window)
        features[f"card_mean_amount_{days}d"] = sum(other.cents for other in window) / len(window) / 100
        features[f"card_large_count_{days}d"] = sum(is_large(other, everything) for other in window)
    larges = [other.cents for other in window if is_large(other, everything)]
    past = [other.cents for other in before if other.time > tx.time - 30 * DAY]
    features["amount_to_past_mean"] = _ratio(tx.cents, sum(past) / len(past) if past else 0)
    features["amount_to_past_median"] = _ratio(tx.cents, _nearest_rank(past, 0.5))
    features["card_large_sum_30d"] = _ratio(sum(larges), _nearest_rank(past, 0.5))
    features["amount_to_past_p90"] = _ratio(tx.cents, _nearest_rank(past, 0.9))
    features["amount_to_past_max"] = _ratio(tx.cents, max(past, default=0))
    features["amount_z"] = _z([_log(cents) for cents in past], _log(tx.cents))
    features["card_hours_since_last"] = (tx.time - before[-1].time) / (DAY / 24) if past else NAN
    return features


def is_large(tx: Transaction, everything: list[Transaction]) -> bool:
    """Whether the amount is above 2.5 times the median of the card's last 30 days; false without history."""
    past = [other.cents for other in _before(tx, everything) if other.time > tx.time - 30 * DAY]
    return bool(past) and 2 * tx.cents > 5 * _nearest_rank(past, 0.5)


def is_explained(fraud: Transaction, everything: list[Transaction], delay: int) -> bool:
    """Whether the card was spending unusually: by the fraud itself, or by two amounts around it.

    Those are the ones from a week before it until it first becomes known, at the latest until the delay after it.
    """
    median = past_median(fraud, everything)
    if median < 0:
        return False
    judged = min(*_known_as_fraud(fraud, delay), fraud.time + delay)
    around = [
        other.cents
        for other in everything
        if other.card == fraud.card and other != fraud and fraud.time - 7 * DAY < other.time <= judged
    ]
    return is_large(fraud, everything) or sum(2 * cents > 5 * median for cents in around) >= 2


def past_median(tx: Transaction, everything: list[Transaction]) -> int:
    """The median of the card's last 30 days; -1 without any."""
    past = [other.cents for other in _before(tx, everything) if other.time > tx.time - 30 * DAY]
    return _nearest_rank(past, 0.5) if past else -1


def _known_as_fraud(tx: Transaction, delay: int) -> list[int]:
    """The moments at which it becomes known as a fraud, or is confirmed as one."""
    changes = [known_time(tx, came, delay) for came, _ in labels_of(tx)]
    return [change for change in changes if label_at(tx, change, delay) == 1]


def terminal_features(tx: Transaction, everything: list[Transaction], delay: int) -> dict[str, float]:
    """Features of one transaction's terminal, from labels known when it happens."""
    at_terminal = [other for other in _ordered(everything) if other.terminal == tx.terminal]
    matured = [other for other in at_terminal if tx.time - delay - 30 * DAY < other.time <= tx.time - delay]

    def is_known_fraud(other: Transaction) -> bool:
        return label_at(other, tx.time, delay) == 1

    def known_since(other: Transaction) -> int:
        """When it became known what is known now."""
        return fraud_since(other, tx.time, delay)

    features: dict[str, float] = {}
    for days in (1, 7, 30):
        window = [other for other in matured if other.time > tx.time - delay - days * DAY]
        features[f"terminal_count_{days}d"] = len(window)
        features[f"terminal_fraud_rate_{days}d"] = sum(map(is_known_fraud, window)) / max(len(window), 1)
    for last in (2, 3, 5):
        labels = [is_known_fraud(other) for other in matured[-last:]]
        features[f"terminal_fraud_share_last_{last}"] = sum(labels) / len(labels) if labels else NAN

    recent = [other for other in at_terminal if other.time > tx.time - delay - 30 * DAY]
    unexplained = [other for other in recent if is_known_fraud(other) and not is_explained(other, everything, delay)]
    unexplained.sort(key=known_since)  # stable: known at once, the later transaction is last
    features["terminal_unexplained_count_30d"] = len(unexplained)
    if not unexplained:
        return features | dict.fromkeys((*UNEXPLAINED_AGES, *UNEXPLAINED_AMOUNTS), NAN)
    ages = [min(tx.time - known_since(other), 30 * DAY) / DAY for other in (unexplained[0], unexplained[-1])]
    after = matured[matured.index(unexplained[-1]) + 1 :] if unexplained[-1] in matured else []
    genuine = sum(not is_known_fraud(other) for other in after)
    features |= dict(zip(UNEXPLAINED_AGES, [*ages, genuine], strict=True))
    amounts = [other.cents / 100 for other in unexplained]
    ratios = [other.cents / median for other in unexplained if (median := past_median(other, everything)) > 0]
    found = [min(amounts), min(ratios, default=NAN), amounts[-1]]
    return features | dict(zip(UNEXPLAINED_AMOUNTS, found, strict=True))


UNEXPLAINED_AMOUNTS = (
    "terminal_unexplained_least_amount",
    "terminal_unexplained_least_to_median",
    "terminal_unexplained_last_amount",
)
UNEXPLAINED_AGES = (
    "terminal_days_since_first_unexplained",
    "terminal_days_since_last_unexplained",
    "terminal_genuine_since_unexplained",
)


def known_time(tx: Transaction, available: int | None, delay: int) -> int:
    """When a label is known: never before the transaction."""
    return max(tx.time + delay if available is None else available, tx.time + 1)


def labels_of(tx: Transaction) -> tuple[tuple[int | None, bool], ...]:
    """All labels, oldest first."""
    return (*tx.earlier, (tx.available, tx.fraud))


def label_at(tx: Transaction, moment: int, delay: int) -> int | None:
    """The last label known at a time."""
    known = [int(fraud) for came, fraud in labels_of(tx) if known_time(tx, came, delay) <= moment]
    return known[-1] if known else None


def fraud_since(tx: Transaction, moment: int, delay: int) -> int:
    """Since when a fraud has been known without interruption."""
    changes = sorted(known_time(tx, came, delay) for came, _ in labels_of(tx))
    before = [change for change in changes if change <= moment]
    while len(before) > 1 and label_at(tx, before[-2], delay) == 1:
        before.pop()
    return before[-1]


def _ordered(transactions: list[Transaction]) -> list[Transaction]:
    return sorted(transactions, key=lambda other: (other.time, other.id))


def _before(tx: Transaction, everything: list[Transaction]) -> list[Transaction]:
    """The card's earlier transactions, the latest last."""
    return [other for other in _ordered(everything) if other.card == tx.card and _place(other) < _place(tx)]


def _place(tx: Transaction) -> tuple[int, int]:
    return tx.time, tx.id


def _nearest_rank(values: list[int], share: float) -> int:
    """The smallest value that this share of the values does not exceed."""
    return sorted(values)[math.ceil(round(share * len(values), 9)) - 1] if values else 0


def _ratio(value: float, base: float) -> float:
    return value / base if base > 0 else NAN


def _log(cents: int) -> int:
    """256 times the base-2 logarithm of cents + 1, interpolated between powers of two, rounded down."""
    mantissa, exponent = math.frexp(cents + 1)
    return 256 * (exponent - 1) + math.floor(256 * (2 * mantissa - 1))


def _z(past: list[int], value: int) -> float:
    if len(set(past)) < 2:
        return NAN
    mean = sum(past) / len(past)
    deviation = math.sqrt(sum((other - mean) ** 2 for other in past) / len(past))
    return (value - mean) / deviation
