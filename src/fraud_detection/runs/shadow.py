"""Which candidates a run opens and looks at: the promotion rule applied to the log, the champion and the data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from fraud_detection.holdout import HoldoutSpan, count_frauds, holdout_rows
from fraud_detection.promotion import sequential
from fraud_detection.promotion.sequential import HoldoutCounts, NextLook, SequentialRule
from fraud_detection.registry import Champion
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.registry.log_view import candidate_records, sequential_entries
from fraud_detection.registry.reviews import waiting_candidates
from fraud_detection.runs.first_champion import first_holdout
from fraud_detection.runs.looks import Look, holdout_span
from fraud_detection.schema import CandidateKey, CandidateRecord, LookKey, RetirementRecord
from fraud_detection.settings import Settings
from fraud_detection.time_windows import CandidateSpans, candidate_spans, first_champion_cutoff, matured_until
from fraud_detection.transactions.profile import Profile

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate that the run is going to open."""

    key: CandidateKey
    spans: CandidateSpans
    backfilled: bool
    drifted: tuple[str, ...] = ()
    """For whose drift it is opened early."""


@dataclass(frozen=True)
class Shadow:
    """The log up to the as-of time, beside the champion in service."""

    as_of: datetime
    recipe: str
    champion: Champion | None
    entries: tuple[sequential.LogEntry, ...]
    records: Mapping[CandidateKey, CandidateRecord]
    rule: SequentialRule
    settings: Settings
    waiting: frozenset[CandidateKey] = frozenset()
    """Those that have passed a look and wait for a person's approval."""

    @classmethod
    def of(
        cls, log: Iterable[LogEntry], champion: Champion | None, as_of: datetime, recipe: str, settings: Settings
    ) -> "Shadow":
        """Read the log, up to the looks that this run takes itself: one that is finished later is the same run."""
        entries = tuple(log)
        before = (
            one
            for one in sequential_entries(entries, as_of)
            if not (isinstance(one, sequential.Look) and one.as_of == as_of)
        )
        return cls(
            as_of,
            recipe,
            champion,
            tuple(before),
            candidate_records(entries, as_of),
            SequentialRule.of(settings.comparison),
            settings,
            waiting_candidates(entries, as_of, settings.promotion.approval_days),
        )

    def planned(self) -> tuple[PlannedCandidate, ...]:
        """The candidates to open now; without a champion the one that may become the first, also if it is known."""
        if self.champion is None:
            first = CandidateKey(first_champion_cutoff(self.as_of, self.settings.windows), self.recipe)
            keys: tuple[CandidateKey, ...] = (first,)
        else:
            maturity = timedelta(days=self.settings.windows.maturity_days)
            keys = sequential.candidates_to_open(
                self.entries, self.recipe, self.serving, self.as_of, self.rule, maturity
            )
        newest = self.as_of - self.rule.candidate_every
        return tuple(
            PlannedCandidate(key, candidate_spans(key.label_cutoff, self.settings.windows), key.label_cutoff <= newest)
            for key in keys
        )

    def planned_early(self, drifted: tuple[str, ...]) -> tuple[PlannedCandidate, ...]:
        """The candidate to open now because of drift, before the next point of the grid; none without drift."""
        if self.champion is None or not drifted:
            return ()
        maturity = timedelta(days=self.settings.windows.maturity_days)
        key = sequential.early_candidate(self.entries, self.recipe, self.serving, self.as_of, self.rule, maturity)
        if key is None:
            return ()
        spans = candidate_spans(key.label_cutoff, self.settings.windows)
        return (PlannedCandidate(key, spans, backfilled=False, drifted=drifted),)

    def with_opened(self, records: Iterable[CandidateRecord]) -> "Shadow":
        """As it is once these candidates are opened."""
        new = {record.key: record for record in records}
        opened = tuple(
            sequential.Candidate(record.key, record.training.end, record.growth, record.opened_at)
            for record in new.values()
        )
        return replace(self, entries=(*self.entries, *opened), records={**self.records, **new})

    def with_looks(self, keys: Iterable[LookKey]) -> "Shadow":
        """As it is once these looks are taken."""
        taken = tuple(
            sequential.Look(self.as_of, key.candidate, key.champion_version, key.number)
            for key in keys
            if key.champion_version is not None
        )
        return replace(self, entries=(*self.entries, *taken))

    def spans(self) -> dict[CandidateKey, HoldoutSpan]:
        """The hold-out of each candidate alive."""
        if self.champion is None:
            return {}
        alive = sequential.alive_candidates(self.entries, self.serving, self.as_of, self.rule)
        return {one.key: self._span(self.records[one.key]) for one in alive}

    def maturing_spans(self) -> dict[CandidateKey, HoldoutSpan]:
        """The hold-out of each candidate alive as it is when all transactions before the as-of time have matured."""
        return {key: self.maturing_span(key) for key in self.spans()}

    def maturing_span(self, key: CandidateKey) -> HoldoutSpan:
        """The hold-out of a candidate as it is then."""
        later = replace(self, as_of=self.as_of + timedelta(days=self.settings.windows.maturity_days))
        return later._span(self.records[key])

    def next_looks(self, frauds: pd.DataFrame) -> tuple[NextLook, ...]:
        """The next look at each candidate alive, due or not.

        Args:
            frauds: the rows that ever were frauds, see `holdout.holdout_rows`.
        """
        return self.following_looks({key: self._counts(frauds, span) for key, span in self.spans().items()})

    def following_looks(self, counts: Mapping[CandidateKey, HoldoutCounts]) -> tuple[NextLook, ...]:
        """The next look at each candidate alive, with its hold-out counted already."""
        if self.champion is None:
            return ()
        return sequential.next_looks(self.entries, self.serving, counts, self.as_of, self.rule)

    def takes_looks(self) -> bool:
        """Whether looks that are due are taken now: at the first as-of time of each `look_every_hours` that has any."""
        begin = self.next_look_time() - self._look_every
        return not any(begin <= one.as_of < self.as_of for one in self.entries if isinstance(one, sequential.Look))

    def next_look_time(self) -> datetime:
        """The next point of the grid of `look_every_hours`, which counts from 1970."""
        return _EPOCH + ((self.as_of - _EPOCH) // self._look_every + 1) * self._look_every

    def look(self, key: LookKey) -> Look:
        """A look of the run's opening."""
        record = self.records[key.candidate]
        if key.champion_version is None:
            spans = candidate_spans(record.key.label_cutoff, self.settings.windows)
            return Look(key, record, first_holdout(spans, self.as_of, self.settings))
        return Look(key, record, self._span(record))

    def retirements(self) -> tuple[RetirementRecord, ...]:
        """The candidates that are no longer looked at; what waits for approval is kept until it is settled."""
        if self.champion is None:
            return ()
        due = sequential.due_retirements(self.entries, self.serving, self.as_of, self.rule)
        return tuple(
            RetirementRecord(candidate=one.candidate, reason=one.reason)
            for one in due
            if one.candidate not in self.waiting
        )

    def growth(self, profile: Profile) -> float:
        """Of a candidate that is opened now: from the frauds that matured in the last `shadow_days`."""
        end = matured_until(self.as_of, self.settings.windows)
        hours = profile.hours_between(end - self.rule.shadow, end)
        seen = max(1.0, float(np.count_nonzero(profile.transactions_by_hour[hours])))
        frauds = float(profile.frauds_by_hour[hours].sum())
        return self.rule.growth(frauds * (self.rule.shadow / timedelta(hours=1)) / seen)

    @property
    def _look_every(self) -> timedelta:
        return timedelta(hours=self.settings.comparison.look_every_hours)

    @property
    def serving(self) -> sequential.Champion:
        """The champion as the rule knows it. Raises ValueError if none is in service."""
        if self.champion is None:
            raise ValueError("no champion is in service")
        champion = self.champion
        return sequential.Champion(champion.version, champion.training.end, refit_of=champion.refit_of)

    def _counts(self, frauds: pd.DataFrame, span: HoldoutSpan) -> HoldoutCounts:
        return count_frauds(holdout_rows(frauds, frauds, span, self.settings))

    def _span(self, record: CandidateRecord) -> HoldoutSpan:
        end = self.serving.training_end if self.champion is not None else record.training.end
        return holdout_span(record, end, self.as_of, self._recipe_first_seen(record), self.settings)

    def _recipe_first_seen(self, record: CandidateRecord) -> datetime | None:
        """From when on rows count; None for the champion's own recipe, which no earlier evidence can have favoured."""
        if self.champion is None or self.settings.promotion.trust_past_evidence:
            return None
        if self.champion.recipe == record.key.recipe:
            return None
        return min(one.opened_at for one in self.records.values() if one.key.recipe == record.key.recipe)
