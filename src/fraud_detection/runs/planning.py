"""What a run opens: the candidates that it trains, and the looks that are due. The log has it before it is measured."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fraud_detection.data_health.examination import Verdict
from fraud_detection.holdout import HoldoutSpan, count_frauds, holdout_rows
from fraud_detection.promotion import (
    Evidence,
    check_first_champion_possible,
    check_training_possible,
    explain_checks,
)
from fraud_detection.promotion.sequential import LookState, NextLook, next_opening
from fraud_detection.runs.advice import Shortage, waiting_advice
from fraud_detection.runs.blocks import Block
from fraud_detection.runs.first_champion import first_holdout, frauds_only
from fraud_detection.runs.progress import candidate_name, next_look_line
from fraud_detection.runs.shadow import PlannedCandidate, Shadow
from fraud_detection.runs.training import Trainer
from fraud_detection.sampling import TrainingSample
from fraud_detection.schema import CandidateRecord, Check, LookKey, Opening, Span
from fraud_detection.settings import Settings
from fraud_detection.transactions.profile import Profile


@dataclass(frozen=True)
class Plan:
    """What a run opens, or why it opens no look."""

    shadow: Shadow
    """With the candidates that are opened."""
    candidates: tuple[CandidateRecord, ...] = ()
    looks: tuple[LookKey, ...] = ()
    next_looks: tuple[NextLook, ...] = ()
    """At every candidate alive, due or not."""
    reason: str = ""
    """Why there is no look."""
    checks: tuple[Check, ...] = ()
    """That failed, and so there is no look."""
    training: Span | None = None
    """Of a candidate that cannot be trained."""
    holdout: Span | None = None
    """On which a first champion cannot be tested."""
    warnings: tuple[str, ...] = ()


def plan(shadow: Shadow, trainer: Trainer, block: Block | None, drifted: tuple[str, ...] = ()) -> Plan:
    """Train and freeze the candidates that are to be opened, and find the looks that are due.

    Args:
        shadow: the log, up to the as-of time of the run.
        trainer: for the candidates.
        block: what stops promotions now; candidates are opened then, and no looks are taken.
        drifted: the inputs, or the score, that have drifted since the champion was trained: one is opened early.
    """
    if shadow.champion is None:
        return _plan_first_test(shadow, trainer, block)
    planned = _open_candidates((*shadow.planned(), *shadow.planned_early(drifted)), shadow, trainer)
    spans = planned.shadow.spans().values()
    found = planned.shadow.next_looks(trainer.frauds.covering(spans)) if spans else ()
    planned = replace(planned, next_looks=found)
    due = tuple(_key(one) for one in found if one.state is LookState.DUE)
    if block is None and due and shadow.takes_looks():  # at candidates of earlier runs
        return replace(planned, looks=due, checks=(), warnings=planned.warnings + _not_opened(planned))
    return _without_looks(planned, block)


def stopped(shadow: Shadow, verdict: Verdict) -> Plan:
    """Open nothing: the data are not sound."""
    return Plan(shadow, reason=verdict.reason, checks=verdict.checks)


def recount(shadow: Shadow, trainer: Trainer, opening: Opening, block: Block | None, verdict: Verdict) -> Plan:
    """The plan of a run whose opening is in the log already: nothing more is opened, and the next looks are known."""
    spans = shadow.spans().values()
    found = shadow.next_looks(trainer.frauds.covering(spans)) if spans else ()
    planned = Plan(shadow, looks=opening.looks, next_looks=found, reason=_no_candidate(shadow))
    if opening.looks:
        return planned
    if verdict.stops:
        return replace(planned, reason=verdict.reason, checks=verdict.checks)
    return _without_looks(planned, block)


def look_to_come(planned: Plan) -> NextLook | None:
    """The look that is due first once those of the plan are taken."""
    counts = {one.look.candidate: one.counts for one in planned.next_looks}
    return _nearest(planned.shadow.with_looks(planned.looks).following_looks(counts))


def _without_looks(planned: Plan, block: Block | None) -> Plan:
    """Why no look is taken: what stops it, or what the next one waits for."""
    failed = _not_opened(planned)
    if block is not None:
        return replace(planned, reason=block.reason, checks=block.checks, warnings=planned.warnings + failed)
    if not planned.next_looks:
        return planned
    return replace(planned, reason="; ".join([*failed, _waits_for(planned.next_looks, planned.shadow)]))


def _not_opened(planned: Plan) -> tuple[str, ...]:
    """Why a candidate could not be opened."""
    return (planned.reason,) if planned.checks else ()


def _open_candidates(candidates: Iterable[PlannedCandidate], shadow: Shadow, trainer: Trainer) -> Plan:
    opened, found = [], Plan(shadow, reason=_no_candidate(shadow))
    for planned in candidates:
        sample = trainer.sample(planned.spans)
        checks = check_training_possible(sample.span, shadow.settings)
        verdict = trainer.examine(sample)
        found = replace(found, warnings=found.warnings + verdict.warnings)
        if not all(check.passed for check in checks):
            reason = explain_checks(checks, Evidence(sample.span, sample.span))
            reason += _shortage(checks, sample.span, None, shadow, trainer).advice()
            found = replace(found, reason=reason, checks=checks, training=sample.span)
        elif lone := frauds_only(trainer.transactions.profile, sample.span, None, shadow.settings):
            found = replace(found, reason=lone, checks=checks, training=sample.span)
        elif verdict.stops:
            found = replace(found, reason=verdict.reason, checks=verdict.checks, training=sample.span)
        else:
            opened.append(_freeze(planned, sample, shadow, trainer))
    return replace(found, shadow=shadow.with_opened(opened), candidates=tuple(opened))


def _plan_first_test(shadow: Shadow, trainer: Trainer, block: Block | None) -> Plan:
    if block is not None:
        return Plan(shadow, reason=block.reason, checks=block.checks)
    if shadow.waiting:
        name = candidate_name(max(shadow.waiting))
        return Plan(
            shadow, reason=f"{name} waits for approval; next: fraud-detection candidates, then approve or reject"
        )
    (planned,) = shadow.planned()
    sample = trainer.sample(planned.spans)
    span = first_holdout(planned.spans, shadow.as_of, shadow.settings)
    counted = _count(trainer, span, shadow.settings)
    spans = (sample.span, counted)
    evidence = Evidence(*spans)
    checks = check_first_champion_possible(evidence, shadow.settings)
    if lone := frauds_only(trainer.transactions.profile, *spans, shadow.settings):
        return Plan(shadow, reason=lone, checks=checks, training=sample.span, holdout=counted)
    verdict = trainer.examine(sample)
    if not all(check.passed for check in checks) or verdict.stops:
        reason, checks = (
            (verdict.reason, verdict.checks)
            if verdict.stops
            else (explain_checks(checks, evidence) + _shortage(checks, *spans, shadow, trainer).advice(), checks)
        )
        return Plan(shadow, reason=reason, checks=checks, training=sample.span, holdout=counted)
    known = shadow.records.get(planned.key)
    record = _freeze(planned, sample, shadow, trainer) if known is None else known
    opened = (record,) if known is None else ()
    look = LookKey(candidate=record.key, champion_version=None, number=1)
    return Plan(shadow.with_opened(opened), opened, (look,), warnings=verdict.warnings)


def _shortage(
    checks: tuple[Check, ...], training: Span, holdout: Span | None, shadow: Shadow, trainer: Trainer
) -> Shortage:
    return Shortage(checks, training, holdout, shadow.as_of, trainer.transactions.profile, shadow.settings)


def _no_candidate(shadow: Shadow) -> str:
    opens, hours = next_opening(shadow.as_of, shadow.rule), shadow.settings.comparison.candidate_every_hours
    return (
        f"no candidate is in shadow; next: wait until {opens:%Y-%m-%d %H:%M}, when one is opened"
        f" (comparison.candidate_every_hours is {hours})"
    )


def _freeze(planned: PlannedCandidate, sample: TrainingSample, shadow: Shadow, trainer: Trainer) -> CandidateRecord:
    return trainer.freeze(planned, sample, shadow.as_of, shadow.growth(trainer.transactions.profile))


def _count(trainer: Trainer, span: HoldoutSpan, settings: Settings) -> Span:
    """The rows of a hold-out: the frauds as they are compared, and all transactions, of known cards, too."""
    frauds = trainer.frauds.covering((span,))
    counted = count_frauds(holdout_rows(frauds, frauds, span, settings))
    return holdout_counts(trainer.transactions.profile, span.start, span.end, counted.frauds)


def holdout_counts(profile: Profile, start: datetime, end: datetime, frauds: int) -> Span:
    """A hold-out whose rows were not collected: with all its transactions, also those of known compromised cards."""
    transactions = int(profile.transactions_by_hour[profile.hours_between(start, end)].sum())
    return Span(start=start, end=end, transactions=transactions, frauds=frauds)


def _key(one: NextLook) -> LookKey:
    look = one.look
    return LookKey(candidate=look.candidate, champion_version=look.champion_version, number=look.number)


def _waits_for(found: tuple[NextLook, ...], shadow: Shadow) -> str:
    """What the look waits for that is due first."""
    due = [one for one in found if one.state is LookState.DUE]
    if due:
        at = shadow.next_look_time()
        every = shadow.settings.comparison.look_every_hours
        return (
            f"look {due[0].look.number} at {candidate_name(due[0].look.candidate)} is taken at {at:%Y-%m-%d %H:%M}"
            f" (comparison.look_every_hours is {every})"
        )
    nearest = _nearest(found)
    if nearest is None:
        return ""
    span = shadow.spans()[nearest.look.candidate]
    days = (span.end - span.start) / timedelta(days=1)
    return next_look_line(nearest, shadow.rule) + waiting_advice(nearest, shadow.rule, days, shadow.as_of)


def _nearest(found: tuple[NextLook, ...]) -> NextLook | None:
    return min(found, key=lambda one: (one.frauds_needed - one.counts.frauds, one.look.candidate), default=None)
