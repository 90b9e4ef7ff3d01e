"""Progress of a run: one short line per step, the same on a terminal, in a log and in the demo."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from fraud_detection.commands import Commands
from fraud_detection.data_health.drift import drifted_text
from fraud_detection.promotion import explain_decision, shown_look
from fraud_detection.promotion.checks import told_apart
from fraud_detection.promotion.sequential import LookState, NextLook, SequentialRule
from fraud_detection.registry.candidate_names import candidate_name as short_name
from fraud_detection.registry.decision_log import Action, Entry, Intervention
from fraud_detection.registry.listing import ShadowCandidate
from fraud_detection.schema import (
    CandidateKey,
    CandidateRecord,
    Decision,
    Difference,
    DriftRecord,
    LookRecord,
    Metrics,
    Outcome,
    RollbackLook,
    Span,
)
from fraud_detection.shapes import one_line

if TYPE_CHECKING:
    from fraud_detection.data_health.examination import Verdict
    from fraud_detection.transactions.profile import Profile

Progress = Callable[[str, str], None]
"""Reports a step of a run by its name and a line; the command line prints both."""


class Stopwatch:
    """Wall seconds by phase, in the order the phases began; a phase does not count what runs inside it as another."""

    def __init__(self, on_phase: Callable[[str], None] = lambda _: None) -> None:
        """`on_phase` gets the phase whenever one begins or ends."""
        self._on_phase = on_phase
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to `phase`."""
        self._seconds.setdefault(phase, 0.0)
        self._switch()
        self._running.append(phase)
        self._on_phase(phase)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()
            self._on_phase(self._running[-1] if self._running else f"after {phase}")

    def _switch(self) -> None:
        now = perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now

    @property
    def seconds(self) -> dict[str, float]:
        """Phase to seconds, rounded to hundredths."""
        return {phase: round(seconds, 2) for phase, seconds in self._seconds.items()}


def data_line(profile: "Profile", missing: Sequence[str], matured: datetime) -> str:
    """What was read: transactions, frauds, what of it is `missing`, and how far labels have matured."""
    transactions, frauds = int(profile.transactions_by_hour.sum()), int(profile.frauds_by_hour.sum())
    found = (f"{transactions:,} transactions", f"{frauds:,} frauds", *missing, f"labels mature to {_day(matured)}")
    return " · ".join(found)


def stored_line(files: int, damaged: str | None) -> str:
    """That all files were read into the store, and which of its files was lost or damaged."""
    why = f"{damaged} is missing or damaged; " if damaged else ""
    return f"{why}built from all {files:,} file(s); later runs read only files that are new or changed"


def health_line(verdict: "Verdict") -> str:
    """Which checks of the data failed."""
    failed = [check.name for check in verdict.checks if not check.passed]
    if not failed:
        return f"{len(verdict.checks)} checks of the data passed"
    consequence = "stops the run" if verdict.stops else "warns only"
    return f"{len(failed)} of {len(verdict.checks)} checks of the data failed ({', '.join(failed)}): {consequence}"


def candidate_name(key: CandidateKey) -> str:
    """A candidate as lines and reasons name it: by its label cut-off."""
    return f"the candidate of {_day(key.label_cutoff)}"


def opened_line(record: CandidateRecord) -> str:
    """A candidate that a run has trained and frozen."""
    backfilled = " (backfilled)" if record.backfilled else ""
    early = f" (early: {drifted_text(record.drifted)})" if record.drifted else ""
    trained = f"trained to {_day(record.training.end)} on {_counts(record.training)}"
    return f"{candidate_name(record.key)}{backfilled}{early} · {trained}"


def drift_line(drift: DriftRecord) -> str:
    """Whether the newest transactions are distributed as those that the champion was trained on."""
    largest = max((*drift.inputs, drift.score), key=lambda one: one.ratio)
    found = f"largest PSI to limit: {largest.name} {largest.psi:.3f} of {largest.drift_limit:.3f}"
    return f"{drifted_text(drift.drifted) if drift.drifted else 'none'} · {found}"


def report_look(look: LookRecord, progress: Progress) -> None:
    """Report what a look has measured and what it had to reach, then on which rows."""
    against = "the floor" if look.champion_version is None else f"v{look.champion_version}"
    progress("look", f"{look.number} at {candidate_name(look.candidate)} against {against} · {_evidence(look)}")
    rows = f"{_counts(look.holdout)} on {look.fraud_cards:,} cards" if look.by_card else _counts(look.holdout)
    progress("", f"hold-out {_day(look.holdout.start)} … {_day(look.holdout.end)} · {rows}")


def rollback_look_line(look: RollbackLook) -> str:
    """What a look at the champion's predecessor has measured and what it had to reach."""
    key = look.key
    head = f"look {key.number} at v{key.predecessor_version} against champion v{key.champion_version}"
    if look.difference is None or look.root is None or look.limits is None:
        return f"{head} · nothing measured"
    found = f"AP {look.difference.value:+.3f} · R_EL {look.root:.2f}, needed {look.limits.root:.2f}"
    return f"{head} · {found} · {'the champion is rolled back' if look.passed else 'the champion stays'}"


def rolled_back_line(done: Intervention, commands: Commands) -> str:
    """That the rule has put the predecessor into service."""
    return (
        f"{_version(done.from_version)} → {_version(done.to_version)}, which is pinned: {done.reason}; promotions"
        f" resume with: {commands.unpin}"
    )


def next_look_line(one: NextLook, rule: SequentialRule) -> str:
    """What the next look at a candidate waits for."""
    look = f"look {one.look.number} at {candidate_name(one.look.candidate)}"
    match one.state:
        case LookState.WAITS_FOR_FRAUDS:
            return f"{one.counts.frauds} of {one.frauds_needed} frauds for {look}"
        case LookState.WAITS_FOR_CARDS:
            return f"frauds on {one.counts.fraud_cards} of {rule.minimum_fraud_cards} cards for {look}"
        case LookState.WAITS_FOR_RISK:
            return f"all {rule.looks_in_period} looks of the last 30 days are taken; {look} waits"
    return f"{look} is due"


def resumed_line(entry: Entry) -> str:
    """What an earlier run decided, or a person commanded, that was interrupted before it had come into force."""
    if isinstance(entry, Intervention):
        return f"{entry.action} by {entry.who}, which was interrupted: champion is {_version(entry.to_version)}"
    decision = entry
    return f"the run of {_day(decision.as_of)}, which was interrupted: {_outcome(decision)}"


def report_decision(decision: Decision, progress: Progress) -> None:
    """Report the comparison, the decision and the report, a line each."""
    if decision.champion is not None:
        progress("champion", _metrics(decision.champion_version, decision.champion))
    if decision.challenger is not None:
        progress("challenger", _metrics(None, decision.challenger))
    if decision.difference is not None:
        progress("difference", _difference(decision.difference, decision))
    progress("decision", f"{_outcome(decision)} · {explain_decision(decision)}")
    if decision.report is not None:
        progress("report", decision.report)


def report_next_look(decision: Decision, one: NextLook | None, rule: SequentialRule, progress: Progress) -> None:
    """Report what the next look waits for, unless the decision says so, or a new champion makes it void."""
    if one is not None and decision.looks and decision.outcome is not Outcome.PROMOTED:
        progress("next", next_look_line(one, rule))


def report_pin(decision: Decision, commands: Commands, progress: Progress) -> None:
    """Report how automatic promotion resumes, if a pin stopped it."""
    if any(check.name == "not_pinned" and not check.passed for check in decision.checks):
        progress("next", f"automatic promotion resumes with: {commands.unpin}")


def report_review(decision: Decision, commands: Commands, progress: Progress) -> None:
    """Report how a person promotes the winner, or rejects it."""
    winner = shown_look(decision.looks)
    if decision.outcome is Outcome.NEEDS_REVIEW and winner is not None:
        name = short_name(winner.candidate, [look.candidate for look in decision.looks])
        progress("next", f"{commands.approve(name)}, or: {commands.reject(name)}")


def history_table(history: tuple[Entry, ...], notes: Mapping[datetime, str] = MappingProxyType({})) -> list[str]:
    """The decision log as aligned lines: what each run decided, and what users did in between.

    `notes` are added to the reasons of the decisions of these as-of times.
    """
    head = ("as of", "outcome", "champion", "AP", "challenger AP", "difference", "reason")
    rows = [head, *(tuple(map(one_line, _row(entry, notes))) for entry in history)]
    return aligned(rows)


def candidate_table(candidates: Iterable[ShadowCandidate]) -> list[str]:
    """The candidates in shadow as aligned lines, the head first."""
    return aligned(
        [("candidate", "trained to", "looks", "difference", "last look", "state"), *(one.row for one in candidates)]
    )


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows of a table as lines."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] + [0]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(entry: Entry, notes: Mapping[datetime, str]) -> tuple[str, ...]:
    if not isinstance(entry, Decision):
        return _intervention_row(entry)
    *cells, reason = _decision_row(entry)
    note = notes.get(entry.as_of)
    return (*cells, reason if note is None else f"{reason} · {note}")


def _decision_row(decision: Decision) -> tuple[str, ...]:
    champion, challenger, difference = decision.champion, decision.challenger, decision.difference
    return (
        f"{decision.as_of:%Y-%m-%d %H:%M}",
        _outcome(decision),
        _version(decision.champion_version),
        f"{champion.average_precision:.3f}" if champion else "",
        f"{challenger.average_precision:.3f}" if challenger else "",
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]" if difference else "",
        explain_decision(decision),
    )


def _intervention_row(done: Intervention) -> tuple[str, ...]:
    change = f"{_version(done.from_version)} → {_version(done.to_version)}"
    change = change if done.from_version != done.to_version else ""
    action = "PROMOTE (override)" if done.action is Action.PROMOTE else done.action.upper()
    about = "" if done.candidate is None else f", {candidate_name(done.candidate)}"
    return (f"{done.at:%Y-%m-%d %H:%M}", action, change, "", "", "", f"{done.who}{about}: {done.reason}")


def _version(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def _metrics(version: int | None, metrics: Metrics) -> str:
    name = f"v{version}" if version is not None else ""
    precision = metrics.card_precision_at_100
    found = "not measured" if precision is None else f"{precision:.3f}"
    return f"{name:<5} AP {metrics.average_precision:.3f}   CP@100 {found}"


def _difference(difference: Difference, decision: Decision) -> str:
    interval = f"{100 * difference.confidence:.5g} % [{difference.low:+.3f}, {difference.high:+.3f}]"
    look, floor = shown_look(decision.looks), decision.floor
    paired = "paired by card" if look is None or look.by_card else "paired by transaction"
    against = "against a multiple of ranking by amount" if decision.champion is None else paired
    if floor is not None:
        against = f"against the floor {floor.average_precision:.3f}: {floor.origin}"
    return f"      AP {difference.value:+.3f}  {interval}  {against}"


def _outcome(decision: Decision) -> str:
    if decision.outcome is Outcome.PROMOTED:
        return f"PROMOTED as v{decision.version}"
    return decision.outcome.value.replace("_", " ").upper()


def _evidence(look: LookRecord) -> str:
    if look.difference is None:
        return "nothing measured"
    found = [f"AP {look.difference.value:+.3f}"]
    if look.root is not None and look.limits is not None:
        least = max(look.limits.difference_for_unseen_cards, look.limits.difference_that_matters)
        difference, least_difference = told_apart(look.difference.value, least, decimals=3, sign="+")
        root, least_root = told_apart(look.root, look.limits.root, decimals=2)
        found = [
            f"AP {difference} {_relation(look.difference.value, least)} {least_difference}",
            f"R_EL {root} {_relation(look.root, look.limits.root)} {least_root}",
        ]
    return " · ".join([*found, "passed" if look.passed else "not passed"])


def _relation(value: float, limit: float) -> str:
    return "≥" if value >= limit else "<"


def _counts(span: Span) -> str:
    return f"{span.transactions:,} / {span.frauds:,} frauds"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d" if moment.hour == 0 else "%Y-%m-%d %H:00")
