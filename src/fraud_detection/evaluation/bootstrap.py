"""How much better one score ranks the same hold-out than another, with a confidence interval.

The difference is one of average precision (AP). Its uncertainty comes from a paired bootstrap over cards: a resample
draws as many cards as there are, with replacement, and takes all rows of a card as often as the card was drawn, for
both scores alike. Rows of a card are alike, so resampling rows would understate the uncertainty; and both scores see
the same rows, so what makes a resample hard for both cancels out.

The interval is value ± t * bootstrap standard error, with t the quantile of Student's distribution for as many degrees
of freedom as there are cards with frauds, less one: few such cards say little, however many frauds they have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_detection.evaluation.card_contributions import card_codes, score_ranks
from fraud_detection.evaluation.metrics import average_precision
from fraud_detection.schema import Difference

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Counts = NDArray[np.float32]
"""Whole numbers; float32 holds them, and sums of them, exactly up to 16 million."""
Hashes = NDArray[np.uint64]

_CHUNK_WEIGHTS = 1_000_000  # weights held at once: 4 MB, about what a processor's cache holds


def one_sided_confidence(confidence: float) -> float:
    """The confidence of the two-sided interval whose lower end is the one-sided bound at `confidence`: 0.95 gives 0.9.

    What the interval leaves out lies half below it and half above.
    """
    return round(2.0 * confidence - 1.0, 12)


def first_champion_floor(amount_average_precision: ArrayLike, multiple: float) -> Floats:
    """The average precision that a first champion has to exceed.

    `multiple` times that of ranking by amount alone, at most half the way from there to 1: a multiple of an AP above
    1/multiple would be more than a perfect model has.
    """
    amount = np.asarray(amount_average_precision, np.float64)
    return np.asarray(np.minimum(multiple * amount, (1.0 + amount) / 2.0))


def paired_difference(
    fraud: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    card: ArrayLike | None,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference | None:
    """AP(challenger) - AP(champion) with its interval; None without frauds.

    The result does not depend on the order of the rows nor on the names of the cards, and swapping the two scores
    mirrors it (where they do not tie).

    Args:
        fraud: 0 or 1, shape (rows,).
        champion_score: finite, larger = more suspicious; only the ranking matters.
        challenger_score: likewise, for the same rows.
        card: the card of each row; None where the data has no cards, then every transaction is its own.
        confidence: two-sided, in (0, 1).
        resamples: bootstrap resamples; 1000 put the standard error within about 2 % of its limit.
        seed: of the resamples.
    """
    labels = np.asarray(fraud) == 1
    champion, challenger = _Score.of(labels, champion_score), _Score.of(labels, challenger_score)
    if challenger.average_precision < champion.average_precision:
        # Computed in the direction of the winner, so that swapping the roles mirrors the interval to the last bit.
        mirrored = _difference(labels, challenger, champion, _itself, card, confidence, resamples, seed)
        return mirrored and mirrored.model_copy(
            update={"value": -mirrored.value, "low": -mirrored.high, "high": -mirrored.low}
        )
    return _difference(labels, champion, challenger, _itself, card, confidence, resamples, seed)


def floor_difference(
    fraud: ArrayLike,
    amount: ArrayLike,
    challenger_score: ArrayLike,
    multiple: float,
    card: ArrayLike | None,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference | None:
    """AP(challenger) - floor with its interval; None without frauds.

    The floor is `first_champion_floor` of the AP of ranking by amount. That AP is measured on the same rows, so each
    resample has a floor of its own. The other arguments are those of `paired_difference`.
    """
    labels = np.asarray(fraud) == 1
    amounts, challenger = _Score.of(labels, amount), _Score.of(labels, challenger_score)
    floor = partial(first_champion_floor, multiple=multiple)
    return _difference(labels, amounts, challenger, floor, card, confidence, resamples, seed)


@dataclass(frozen=True)
class _Score:
    """A score of each row, ranked once."""

    values: Floats
    rank: Codes
    """See `score_ranks`."""
    average_precision: float

    @classmethod
    def of(cls, fraud: NDArray[np.bool_], score: ArrayLike) -> "_Score":
        values = np.asarray(score, np.float64)
        rank = score_ranks(values)[0]
        return cls(values, rank, average_precision(fraud, rank))


def _itself(average_precision: ArrayLike) -> Floats:
    return np.asarray(average_precision, np.float64)


def _difference(
    fraud: NDArray[np.bool_],
    base: _Score,
    score: _Score,
    to_beat: Callable[[ArrayLike], Floats],
    card: ArrayLike | None,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference | None:
    """AP(score) - to_beat(AP(base)) with its interval; `to_beat` maps [0, 1] into [0, 1]."""
    if not fraud.any():
        return None
    value = score.average_precision - float(to_beat(base.average_precision))
    cards, count = _canonical_cards(card, fraud, base.values, score.values)
    better, worse = _Ranking(fraud, score.rank, cards, count), _Ranking(fraud, base.rank, cards, count)
    half = _half_width(
        _resampled(better, worse, to_beat, resamples, seed, count), len(np.unique(cards[fraud])), confidence
    )
    # An AP lies in [0, 1]; beyond what that allows there is nothing to be unsure about.
    return Difference(
        value=value, low=float(max(value - half, -1.0)), high=float(min(value + half, 1.0)), confidence=confidence
    )


def _half_width(differences: Floats, fraud_cards: int, confidence: float) -> float:
    """t * standard error; infinite where a single card has all the frauds, so that there is no spread to measure."""
    from scipy.special import stdtrit

    valid = differences[np.isfinite(differences)]  # a resample without any fraud says nothing
    if fraud_cards < 2 or len(valid) < 2:
        return np.inf
    return float(-stdtrit(fraud_cards - 1, (1.0 - confidence) / 2.0) * np.std(valid, ddof=1))


class _Ranking:
    """One score's ranking, ready to give the AP of many resamples at once.

    AP needs no more than, at each distinct score of a fraud (a threshold), the weight of the frauds with that score and
    of all rows at or above it. So rows are counted by card between neighbouring thresholds, once, into a sparse matrix
    of shape (thresholds, cards); its product with the cards' weights in each resample gives all sums. Rows below the
    last fraud never matter. Equal scores fall in one step, as in `average_precision`.
    """

    def __init__(self, fraud: NDArray[np.bool_], rank: Codes, cards: Codes, count: int) -> None:
        from scipy.sparse import csr_array

        thresholds = np.cumsum(np.bincount(rank[fraud], minlength=int(rank.max()) + 1) > 0)  # at or below each rank
        shape = (int(thresholds[-1]), count)
        step = shape[0] - thresholds[rank]
        ranked = step < shape[0]
        self._rows = csr_array((np.ones(ranked.sum(), np.float32), (step[ranked], cards[ranked])), shape=shape)
        self._frauds = csr_array((np.ones(fraud.sum(), np.float32), (step[fraud], cards[fraud])), shape=shape)

    def average_precision(self, weights: Counts) -> Floats:
        """AP of each resample from weights of shape (cards, resamples); NaN for a resample without frauds."""
        frauds_here = self._frauds @ weights
        frauds = np.cumsum(frauds_here, axis=0, dtype=np.float64)
        rows = np.cumsum(self._rows @ weights, axis=0, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sum(frauds_here * (frauds / np.maximum(rows, 1.0)), axis=0) / frauds[-1])


def _resampled(
    score: _Ranking, base: _Ranking, to_beat: Callable[[ArrayLike], Floats], resamples: int, seed: int, count: int
) -> Floats:
    """AP(score) - to_beat(AP(base)) in each resample of the cards."""
    random = np.random.default_rng(seed)
    width = max(1, min(resamples, _CHUNK_WEIGHTS // count))
    chunks = []
    for start in range(0, resamples, width):
        drawn = random.integers(0, count, size=(min(width, resamples - start), count))
        weights = _times_drawn(drawn, count)
        chunks.append(score.average_precision(weights) - to_beat(base.average_precision(weights)))
    return np.concatenate(chunks)


def _times_drawn(drawn: NDArray[np.int64], count: int) -> Counts:
    """How often each card was drawn, shape (cards, resamples), from the cards drawn, shape (resamples, draws)."""
    weights = np.empty((len(drawn), count), np.float32)
    for resample, cards in zip(weights, drawn, strict=True):  # one at a time stays in the processor's cache
        resample[:] = np.bincount(cards, minlength=count)
    return np.ascontiguousarray(weights.T)


def _canonical_cards(
    card: ArrayLike | None, fraud: NDArray[np.bool_], base: Floats, score: Floats
) -> tuple[Codes, int]:
    """A number 0..n-1 for each row's card that depends on the rows the card has, not on its name or on their order.

    Cards are numbered in the order of a hash of their rows: a sum, which knows no order. Cards with equal hashes have
    equal rows and may stand for each other.
    """
    rows = _mixed(_mixed(_mixed(_bits(base)) + _bits(score)) + fraud.astype(np.uint64))
    codes, count = card_codes(card, len(rows))
    content = np.zeros(count, dtype=np.uint64)
    np.add.at(content, codes, rows)
    numbers = np.empty(count, dtype=np.intp)
    numbers[np.argsort(content)] = np.arange(count)
    return numbers[codes], count


def _bits(values: Floats) -> Hashes:
    return (values + 0.0).view(np.uint64)  # + 0.0 makes minus zero zero


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
