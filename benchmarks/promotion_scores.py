"""A world of scores: what models say of the transactions of simulated days, without training any.

Each row has a latent suspicion that every model sees, and each model adds noise of its own, of which a part is common
to the rows of a card. Some frauds no model sees. Of the genuine rows only the suspicious ones are made; the others rank
below every fraud that a model sees, and change no difference of two models.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fraud_detection.evaluation.card_contributions import average_precision_influence
from fraud_detection.evaluation.metrics import average_precision

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

TRANSACTIONS_PER_FRAUD = 160.0
SUSPICIOUS = 0.07  # share of the genuine rows that is made: those with the largest latent suspicion
HIDDEN = 0.17  # share of the frauds that no model sees
CARD_EFFECT = ROW_EFFECT = 0.65  # standard deviations of the latent suspicion
COMMON_NOISE = 0.6  # share of the variance of a model's noise that is common to a card
SPREAD_DAYS = 4.0  # within which the frauds of a card follow each other
UNSEEN = -9.0  # the score of what a model does not see

POPULATION_DAYS = 700.0
_GRID = np.linspace(-2.0, 12.0, 2801)


@dataclass(frozen=True)
class Model:
    """How a model differs from the others, beside its noise."""

    shift: float = 0.0
    """Added to the score of every fraud that it sees."""
    blind: float = 0.0
    """Share of the fraud cards that it does not see: those with the smallest `Rows.pattern`."""


@dataclass(frozen=True)
class Rows:
    """Rows of some days, sorted by time."""

    day: Floats
    """Time in days."""
    fraud: Mask
    card: Ints
    latent: Floats
    hidden: Mask
    pattern: Floats
    """In [0, 1), the same for all rows of a card."""
    amount: Floats

    def between(self, start: float, end: float) -> slice:
        """The rows of [start, end)."""
        low, high = np.searchsorted(self.day, (start, end))
        return slice(int(low), int(high))


@dataclass(frozen=True)
class World:
    """The frauds of a day, how suspicious they are, and how much models of one recipe differ by noise."""

    noise: float
    """Standard deviation of each model's own noise."""
    fraud_latent: float
    """Mean latent suspicion of frauds; that of genuine rows is 0."""
    frauds_per_day: float = 45.0
    card_frauds: tuple[int, ...] = (1, 2, 3, 4, 5)
    card_weights: tuple[float, ...] = (0.43, 0.28, 0.16, 0.08, 0.05)
    drifting_volume: bool = False

    def rows(self, random: np.random.Generator, start: float, days: float) -> Rows:
        """The rows of so many days."""
        frauds, genuine = self._frauds(random, start, days), self._genuine(random, start, days)
        cards = len(genuine.day) and int(frauds.card.max(initial=-1)) + 1
        genuine = replace(genuine, card=genuine.card + cards)
        pairs = [(getattr(frauds, name), getattr(genuine, name)) for name in Rows.__dataclass_fields__]
        order = np.argsort(np.concatenate(pairs[0]), kind="stable")
        return Rows(*(np.concatenate(pair)[order] for pair in pairs))

    def score(self, rows: Rows, part: slice, model: Model, random: np.random.Generator) -> Floats:
        """One model's scores for a part of the rows, with noise drawn anew."""
        card = rows.card[part]
        base = int(card.min(initial=0))
        common = random.standard_normal(int(card.max(initial=-1)) - base + 1)[card - base]
        noise = np.sqrt(COMMON_NOISE) * common + np.sqrt(1 - COMMON_NOISE) * random.standard_normal(len(card))
        fraud = rows.fraud[part]
        score = rows.latent[part] + model.shift * fraud + self.noise * noise
        return np.where(fraud & (rows.hidden[part] | (rows.pattern[part] < model.blind)), UNSEEN, score)

    def probability(self, score: Floats, model: Model) -> Floats:
        """About the probability of fraud for that score: both kinds of rows are nearly normal."""
        share = (1 - HIDDEN) / TRANSACTIONS_PER_FRAUD
        mean, variance = self.fraud_latent + model.shift, CARD_EFFECT**2 + ROW_EFFECT**2 + self.noise**2
        odds = np.log(share / (1 - share)) + mean * (score - mean / 2) / variance
        return np.asarray(1 / (1 + np.exp(-odds)), np.float64)

    def _frauds(self, random: np.random.Generator, start: float, days: float) -> Rows:
        mean = float(np.dot(self.card_frauds, self.card_weights))
        first = self._times(random, start - SPREAD_DAYS, days + SPREAD_DAYS, self.frauds_per_day / mean)
        count = random.choice(self.card_frauds, size=len(first), p=self.card_weights)
        card = np.repeat(np.arange(len(first)), count)
        day = first[card] + SPREAD_DAYS * random.random(len(card))
        effect, pattern = random.standard_normal(len(first)), random.random(len(first))
        latent = self.fraud_latent + CARD_EFFECT * effect[card] + ROW_EFFECT * random.standard_normal(len(card))
        inside = (day >= start) & (day < start + days)
        hidden = random.random(len(card)) < HIDDEN
        amount = random.lognormal(size=len(card))
        rows = Rows(day, np.ones(len(card), np.bool_), card, latent, hidden, pattern[card], amount)
        return Rows(*(getattr(rows, name)[inside] for name in Rows.__dataclass_fields__))

    def _genuine(self, random: np.random.Generator, start: float, days: float) -> Rows:
        from scipy.special import ndtri

        day = self._times(random, start, days, self.frauds_per_day * TRANSACTIONS_PER_FRAUD * SUSPICIOUS)
        size = len(day)
        latent = -np.hypot(CARD_EFFECT, ROW_EFFECT) * ndtri(SUSPICIOUS * random.random(size))
        none = np.zeros(size, np.bool_)
        return Rows(day, none, np.arange(size), latent, none, np.ones(size), random.lognormal(size=size))

    def _times(self, random: np.random.Generator, start: float, days: float, per_day: float) -> Floats:
        """Times of a Poisson process; its volume is steady, or changes by day and slowly drifts."""
        whole = np.arange(np.floor(start), np.ceil(start + days))
        volume = np.ones(len(whole))
        if self.drifting_volume:
            drift = np.exp(0.5 * np.sin(2 * np.pi * whole / 45.0))
            volume = drift * np.array([0.3, 1.0, 2.5])[(7 * whole.astype(int) + whole.astype(int) // 5) % 3]
        count = random.poisson(per_day * volume)
        times = np.repeat(whole, count) + random.random(count.sum())
        return np.asarray(times[(times >= start) & (times < start + days)], np.float64)


@dataclass(frozen=True)
class Population:
    """Many days of a world, to know a model's true AP and each score's influence on it."""

    world: World
    rows: Rows
    seed: int

    @classmethod
    def of(cls, world: World, seed: int, days: float = POPULATION_DAYS) -> "Population":
        rows = world.rows(np.random.default_rng([seed, 1]), 0.0, days * 45.0 / world.frauds_per_day)
        cards, place = np.unique(rows.pattern, return_inverse=True)
        even = (np.arange(len(cards)) + 0.5) / (
            len(cards) - 1
        )  # each share of the cards is exact; genuine rows are last
        return cls(world, replace(rows, pattern=even[place]), seed)

    def scores(self, model: Model) -> Floats:
        """The same noise for every model."""
        everything = slice(0, len(self.rows.day))
        return self.world.score(self.rows, everything, model, np.random.default_rng([self.seed, 2]))

    def average_precision(self, model: Model) -> float:
        return average_precision(self.rows.fraud, self.scores(model))

    def shift_for(self, target: float, model: Model) -> Model:
        """The model with the shift at which its AP is `target`."""
        low, high = -4.0, 4.0
        for _ in range(16):
            middle = (low + high) / 2
            below = self.average_precision(replace(model, shift=middle)) < target
            low, high = (middle, high) if below else (low, middle)
        return replace(model, shift=(low + high) / 2)

    def blind_for(self, target: float, model: Model) -> Model:
        """The model with the blind share at which its AP is `target`."""
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            above = self.average_precision(replace(model, blind=middle)) > target
            low, high = (middle, high) if above else (low, middle)
        return replace(model, blind=(low + high) / 2)

    def curve(self, model: Model) -> "Curve":
        """The influence of a row on AP by its score, per fraud of the hold-out."""
        score = self.scores(model)
        influence = average_precision_influence(self.rows.fraud, score) * self.rows.fraud.sum()
        tables = []
        for fraud in (False, True):
            own = (self.rows.fraud == fraud) & (score > UNSEEN)
            order = np.argsort(score[own])
            tables.append(np.interp(_GRID, score[own][order], influence[own][order]))
        unseen = influence[self.rows.fraud & (score == UNSEEN)]
        return Curve(np.array(tables), float(unseen[0]) if len(unseen) else 0.0)


@dataclass(frozen=True)
class Curve:
    """See `Population.curve`."""

    tables: Floats
    """Influence of genuine rows and of frauds at each score of the grid, shape (2, grid)."""
    unseen: float
    """Of frauds that the model does not see."""

    def influence(self, fraud: Mask, score: Floats) -> Floats:
        scale = (len(_GRID) - 1) / (_GRID[-1] - _GRID[0])
        place = np.clip((score - _GRID[0]) * scale + 0.5, 0, len(_GRID) - 1).astype(np.intp)
        return np.where(score == UNSEEN, self.unseen, self.tables[fraud.astype(np.intp), place])
