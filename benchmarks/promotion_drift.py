"""How soon a model that knows a new pattern of fraud serves, after the pattern has appeared overnight.

From hour 0 on a share of the frauds follows a pattern that the champion does not see. A model sees n / (n + 30) of the
cards with it, n being the frauds of the pattern whose labels were known when it was trained. Labels become known after
a lognormal delay, median 2 days, 90 % within 7. Everything else is the project's own schedule: candidates, looks, risk.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np

from benchmarks.promotion_months import TODAY_RISK, standard_error
from benchmarks.promotion_scores import Floats, Mask, Model, Rows, World
from fraud_detection.evaluation.card_contributions import CardContributions, card_contributions
from fraud_detection.evaluation.empirical_likelihood import required_root
from fraud_detection.promotion.sequential import (
    Candidate,
    Champion,
    ClosedLook,
    HoldoutCounts,
    LogEntry,
    Look,
    LookState,
    SequentialRule,
    alive_candidates,
    best_look,
    candidates_to_open,
    due_retirements,
    holdout_start,
    look_limits,
    measure_look,
    next_looks,
)
from fraud_detection.schema import CandidateKey

RULE = SequentialRule()
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = 14, 40
"""Days before and after the pattern appears."""
NEW_PATTERN = 20 / 45
"""Share of the cards with frauds that have it."""
_SEEN_ANYWAY = 0.066  # share of the pattern that every model sees: it makes AP fall by .28
_DELAY_MEDIAN, _DELAY_SIGMA = 2.0, np.log(3.5) / 1.2816
_HALF_KNOWN = 30
_WINDOW, _DELAY = 7.0, 7.0  # the hold-out and the label delay of the rule before


@dataclass(frozen=True)
class Drift:
    """How the reaction is simulated."""

    world: World
    maturity: float = 7.0
    """In days."""
    look_every: int = 6
    """In hours."""
    refit: bool = False


@dataclass
class Reaction:
    """What served from hour to hour, as the share of the new pattern's cards that it saw."""

    look_every: int
    served: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    """Of a model trained at that hour on every label known."""
    first_promotion: float | None = None
    """In hours."""

    @property
    def four_fifths(self) -> float | None:
        """The hour from which a model serves that sees 80 % of the pattern."""
        reached = np.flatnonzero(np.array(self.served) >= 0.8)
        return float(reached[0] * self.look_every) if len(reached) else None

    @property
    def lost_share_days(self) -> float:
        """What was not seen although a model could have, in days of the whole pattern."""
        return float(np.sum(np.array(self.best) - self.served) * self.look_every / 24)


def model_with(skill: float) -> Model:
    """The model that sees such a share of the pattern's cards beyond those that every model sees."""
    return Model(blind=NEW_PATTERN * (1 - _SEEN_ANYWAY) * (1 - skill))


class DriftingWorld:
    """The rows around the change, with the labels' delays and every model's scores."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self._world, self._random = world, random
        rows = world.rows(random, -BEFORE, BEFORE + AFTER)
        self.rows: Rows = replace(rows, pattern=np.where(rows.day < 0, 1.0, rows.pattern))
        delay = _DELAY_MEDIAN * np.exp(_DELAY_SIGMA * random.standard_normal(len(rows.day)))
        self.label_day: Floats = np.where(rows.fraud, rows.day + delay, np.inf)

    @cached_property
    def _of_pattern(self) -> Mask:
        return self.rows.fraud & (self.rows.pattern < NEW_PATTERN)

    def skill(self, training_end: float, label_cutoff: float) -> float:
        """The share of the new pattern that a model sees with that training."""
        known = self._of_pattern & (self.rows.day < training_end) & (self.label_day <= label_cutoff)
        count = int(known.sum())
        return count / (count + _HALF_KNOWN)

    def scores(self, skill: float) -> Floats:
        everything = slice(0, len(self.rows.day))
        return self._world.score(self.rows, everything, model_with(skill), self._random)

    def compare(
        self, champion: Floats, challenger: Floats, start: float, end: float, now: float
    ) -> CardContributions | None:
        """Both models on the rows of [start, end), with the labels known by now."""
        part = self.rows.between(start, end)
        fraud = self.label_day[part] <= now
        return card_contributions(fraud, champion[part], challenger[part], self.rows.card[part])

    def counts(self, start: float, end: float, now: float) -> HoldoutCounts:
        part = self.rows.between(start, end)
        cards = self.rows.card[part][self.label_day[part] <= now]
        return HoldoutCounts(len(cards), len(np.unique(cards)))


@dataclass
class _Serving:
    """The champion with its scores and skill."""

    champion: Champion
    score: Floats
    skill: float


class Replay:
    """Runs one after another, as the project's schedule asks for them."""

    def __init__(self, drift: Drift, random: np.random.Generator) -> None:
        self._drift, self._world = drift, DriftingWorld(drift.world, random)
        self._log: list[LogEntry] = []
        self._skill: dict[CandidateKey, float] = {}
        self._score: dict[CandidateKey, Floats] = {}
        self._serving = _Serving(Champion(1, EPOCH - timedelta(days=60)), self._world.scores(0.0), 0.0)
        self.reaction = Reaction(drift.look_every)

    def run(self) -> Reaction:
        for hour in range((7 - BEFORE) * 24, AFTER * 24, self._drift.look_every):
            self._run(hour)
            if hour >= 0:
                self.reaction.served.append(self._serving.skill)
                self.reaction.best.append(self._world.skill(hour / 24, hour / 24))
        return self.reaction

    def _run(self, hour: int) -> None:
        now, as_of = hour / 24, EPOCH + timedelta(hours=hour)
        self._log += due_retirements(self._log, self._serving.champion, as_of, RULE)
        maturity = timedelta(days=self._drift.maturity)
        for key in candidates_to_open(self._log, "recipe", self._serving.champion, as_of, RULE, maturity):
            self._open(key, as_of)
        counts = {
            one.key: self._world.counts(self._start(one), now - self._drift.maturity, now)
            for one in alive_candidates(self._log, self._serving.champion, as_of, RULE)
        }
        looks = next_looks(self._log, self._serving.champion, counts, as_of, RULE)
        due = [look.look for look in looks if look.state is LookState.DUE]
        self._log += due
        closed = [self._close(look, now) for look in due]
        best = best_look(closed)
        if best is not None:
            self._promote(best.look, now)

    def _open(self, key: CandidateKey, as_of: datetime) -> None:
        cutoff = _days(key.label_cutoff)
        growth = RULE.growth(self._drift.world.frauds_per_day * (RULE.shadow / timedelta(days=1)))
        end = key.label_cutoff - timedelta(days=self._drift.maturity)
        self._log.append(Candidate(key, end, growth, as_of))
        self._skill[key] = self._world.skill(cutoff - self._drift.maturity, cutoff)
        self._score[key] = self._world.scores(self._skill[key])

    def _start(self, candidate: Candidate) -> float:
        return _days(holdout_start(candidate, self._serving.champion))

    def _close(self, look: Look, now: float) -> ClosedLook:
        candidate = next(one for one in self._log if isinstance(one, Candidate) and one.key == look.candidate)
        found = self._world.compare(
            self._serving.score,
            self._score[look.candidate],
            self._start(candidate),
            now - self._drift.maturity,
            now,
        )
        assert found is not None  # noqa: S101  (a look has frauds)
        result = measure_look(found)
        return ClosedLook(look, result, look_limits(result.fraud_cards, RULE).reached_by(result))

    def _promote(self, look: Look, now: float) -> None:
        version, key = self._serving.champion.version + 1, look.candidate
        if self._drift.refit:
            skill = self._world.skill(now, now)
            champion = Champion(version, EPOCH + timedelta(days=now), refit_of=key)
            self._serving = _Serving(champion, self._world.scores(skill), skill)
        else:
            champion = Champion(version, key.label_cutoff - timedelta(days=self._drift.maturity))
            self._serving = _Serving(champion, self._score[key], self._skill[key])
        if self.reaction.first_promotion is None and now >= 0:
            self.reaction.first_promotion = now * 24


def react(drift: Drift, random: np.random.Generator) -> Reaction:
    """The reaction of the rule."""
    return Replay(drift, random).run()


def react_as_before(drift: Drift, random: np.random.Generator) -> Reaction:
    """The reaction of the rule before: each run trains a challenger, with a gap and a hold-out of a week each."""
    world, reaction = DriftingWorld(drift.world, random), Reaction(drift.look_every)
    champion, champion_end, skill = world.scores(0.0), -60.0, 0.0
    for hour in range(0, AFTER * 24, drift.look_every):
        now = hour / 24
        end = now - _DELAY
        start = end - _WINDOW
        trained = world.skill(start - _DELAY, start)
        if hour % 24 == 0:
            challenger = world.scores(trained)
        found = world.compare(champion, challenger, start, end, now) if champion_end <= start else None
        if found is not None and found.total_frauds >= 200:
            least = max(RULE.minimum_effect, required_root(TODAY_RISK, found.fraud_cards) * standard_error(found))
            if found.difference > least:
                champion, champion_end, skill = challenger, start - _DELAY, trained
                reaction.first_promotion = reaction.first_promotion or float(hour)
        reaction.served.append(skill)
        reaction.best.append(world.skill(now, now))
    return reaction


def _days(at: datetime) -> float:
    return (at - EPOCH) / timedelta(days=1)
