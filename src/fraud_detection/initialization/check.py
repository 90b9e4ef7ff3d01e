"""What a run would make of an input: read under the contract and counted, without training."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from fraud_detection.errors import DataError, SettingsError
from fraud_detection.holdout import holdout_rows
from fraud_detection.initialization.initialize import examine
from fraud_detection.promotion import Evidence, check_first_champion_possible, explain_checks
from fraud_detection.runs.advice import Shortage
from fraud_detection.runs.first_champion import first_holdout, frauds_only
from fraud_detection.sampling import collect_frauds, training_rows
from fraud_detection.schema import Span
from fraud_detection.settings import Format, Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.time_windows import (
    CandidateSpans,
    candidate_spans,
    first_champion_cutoff,
    run_windows,
)
from fraud_detection.transactions import fitting
from fraud_detection.transactions.columns import transaction_fields
from fraud_detection.transactions.coverage import coverage_text, coverage_warnings, data_counts
from fraud_detection.transactions.profile import Profile
from fraud_detection.transactions.reader import Transactions, read_transactions

_SHOWN = 12


@dataclass(frozen=True)
class Checked:
    """What fits, what does not, and what a first run would do."""

    accepted: bool
    """Whether a run would accept the data."""
    steps: tuple[tuple[str, str], ...]
    """Name and line of each finding."""
    facts: dict[str, Any]
    """The same for programs."""


def check(settings: Settings, input_path: str, as_of: datetime | None, clock: datetime, engine: Engine) -> Checked:
    """Read the whole input as a run would, and say what it would make of it.

    Args:
        settings: of the run.
        input_path: a file or a folder.
        as_of: None: the default one of the data.
        clock: of this machine.
        engine: that reads.

    Raises:
        SettingsError: an extra column has the name of a canonical one.
        ServiceUnavailableError: a storage does not answer.
    """
    try:
        with session(engine) as spark:
            found = read_transactions(spark, settings.data, input_path, clock, as_of)
            found.profile.require_share(settings.data.max_rejected_share)
            return _accepted(found, settings, as_of or found.profile.default_as_of)
    except DataError as error:
        return _refused(error, settings, input_path)


def _refused(error: DataError, settings: Settings, input_path: str) -> Checked:
    steps = [("refused", str(error)), *(("next", line) for line in _proposals(settings, input_path))]
    return Checked(
        False, tuple(steps), {"accepted": False, "error": str(error), "next": [line for _, line in steps[1:]]}
    )


def _proposals(settings: Settings, input_path: str) -> Iterator[str]:
    """The settings of the format that `init` would write, and that are others here."""
    try:
        likely = examine(input_path, {}).settings().data.format.model_dump(mode="json")
    except (DataError, SettingsError):
        return  # the error says what is wrong with the files
    own, default = settings.data.format.model_dump(mode="json"), Format().model_dump(mode="json")
    for name, value in likely.items():
        if value not in (own[name], default[name]):
            yield fitting.as_setting({name: value})


def _accepted(found: Transactions, settings: Settings, as_of: datetime) -> Checked:
    profile, run = found.profile, run_windows(as_of, settings.windows)
    spans = candidate_spans(first_champion_cutoff(as_of, settings.windows), settings.windows)
    evidence = _count(found, spans, settings, as_of)
    failed = [check for check in check_first_champion_possible(evidence, settings) if not check.passed]
    lone = frauds_only(profile, evidence.training, evidence.holdout, settings)
    counts = data_counts(profile, spans.history_start, run.holdout_end, run.as_of)
    warnings = (*profile.warnings(settings.data, run), *coverage_warnings(counts, profile, settings.data))
    facts = {
        "accepted": True,
        "as_of": as_of.isoformat(),
        "rows": profile.rows,
        "rejected_rows": profile.rejected_rows,
        "rejected": profile.rejected,
        "transactions": int(profile.transactions_by_hour.sum()),
        "frauds": int(profile.frauds_by_hour.sum()),
        "first": profile.first.isoformat(),
        "newest": profile.newest.isoformat(),
        "unlabelled_share": round(counts.unlabelled_share, 4),
        "training_frauds": evidence.training.frauds,
        "holdout_frauds": evidence.holdout.frauds,
        "can_decide": not failed and not lone,
        "warnings": list(warnings),
    }
    missing = lone or (explain_checks(failed, evidence) if failed else "")
    if failed and not lone:
        missing += Shortage(failed, evidence.training, evidence.holdout, as_of, profile, settings).advice()
    possible = f"no decision: {missing}" if missing else "enough for a first decision"
    steps = (
        ("columns", _columns(settings)),
        ("rows", " · ".join([f"{profile.rows:,} read", *coverage_text(counts, settings.data)])),
        ("span", f"{profile.first:%Y-%m-%d} … {profile.newest:%Y-%m-%d}"),
        ("frauds", f"{facts['frauds']:,}"),
        *(("rejected", _rejected(reason, profile)) for reason in profile.rejected),
        *(("warning", warning) for warning in warnings),
        ("training", _span_line(evidence.training)),
        ("hold-out", _span_line(evidence.holdout)),
        ("first run", f"as of {as_of:%Y-%m-%d %H:%M} UTC: {possible}"),
        ("accepted", "a run would accept these data"),
    )
    return Checked(True, steps, facts)


def _rejected(reason: str, profile: Profile) -> str:
    fault = f" ({profile.faults[reason]})" if reason in profile.faults else ""
    return f"{reason} {profile.rejected[reason]:,}{fault}"


def _span_line(span: Span) -> str:
    return f"{span.start:%Y-%m-%d %H:%M} … {span.end:%Y-%m-%d %H:%M} · {span.frauds:,} frauds"


def _count(found: Transactions, spans: CandidateSpans, settings: Settings, as_of: datetime) -> Evidence:
    """The rows and frauds of a first champion's training and hold-out."""
    span = first_holdout(spans, as_of, settings)
    frauds = collect_frauds(found, spans.training_start, span.end)
    trained = training_rows(frauds, spans, settings)
    compared = holdout_rows(frauds, frauds, span, settings)
    return Evidence(
        _span(found.profile, spans.training_start, spans.training_end, trained),
        _span(found.profile, span.start, span.end, compared),
    )


def _span(profile: Profile, start: datetime, end: datetime, frauds: pd.DataFrame) -> Span:
    transactions = int(profile.transactions_by_hour[profile.hours_between(start, end)].sum())
    return Span(start=start, end=max(start, end), transactions=transactions, frauds=int(frauds["fraud"].sum()))


def _columns(settings: Settings) -> str:
    fields = transaction_fields(settings.data.columns)
    shown = ", ".join(f"{field.name} ({field.kind})" for field in fields[:_SHOWN])
    return shown if len(fields) <= _SHOWN else f"{shown} and {len(fields) - _SHOWN} more"
