"""The spans of time of one run, and of a candidate.

    history_start … training_start ── training_end │ gap │ holdout_start ── holdout_end │ maturity │ as_of

Every span is half open: its start belongs to it, its end does not.

A candidate knows the labels that were known at its label cut-off, and trains on what had matured then:

    history_start … training_start ── training_end │ maturity │ label_cutoff

Its hold-out begins a training gap after its training, and at each as-of time ends where the labels have matured.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fraud_detection import settings

LOOK_BACK_DAYS = 30
"""Days of a card's or a terminal's past that any feature may read; no window or age is longer."""


@dataclass(frozen=True)
class RunWindows:
    """The spans of a run, all in UTC on whole hours: its candidate's training, and the hold-out that compares it."""

    as_of: datetime
    training_start: datetime
    training_end: datetime
    holdout_start: datetime
    holdout_end: datetime
    history_start: datetime
    """The oldest transaction that a feature of the first training row can depend on."""


def run_windows(as_of: datetime, windows: settings.Windows) -> RunWindows:
    """Lay out the spans of a run at `as_of` (aware; floored to the hour) that compares a first champion."""
    spans = candidate_spans(first_champion_cutoff(as_of, windows), windows)
    return compared_windows(as_of, spans, spans.training_end + training_gap(windows), windows)


def compared_windows(
    as_of: datetime, spans: "CandidateSpans", holdout_start: datetime, windows: settings.Windows
) -> RunWindows:
    """The spans of a run at `as_of` that compares a candidate on the rows from `holdout_start` on."""
    end = matured_until(as_of, windows)
    return RunWindows(
        whole_hour(as_of), spans.training_start, spans.training_end, min(holdout_start, end), end, spans.history_start
    )


@dataclass(frozen=True)
class CandidateSpans:
    """The spans of a candidate, all in UTC on whole hours. They follow from its label cut-off and the settings."""

    label_cutoff: datetime
    """Labels known by then are used."""
    training_start: datetime
    training_end: datetime
    history_start: datetime
    """The oldest transaction that a feature of the first training row can depend on."""


def candidate_spans(label_cutoff: datetime, windows: settings.Windows) -> CandidateSpans:
    """Lay out the spans of the candidate that knows the labels of `label_cutoff` (aware; floored to the hour)."""
    label_cutoff = whole_hour(label_cutoff)
    training_end = matured_until(label_cutoff, windows)
    training_start = training_end - timedelta(days=windows.training_window_days)
    history_start = history_before(training_start, timedelta(days=windows.label_delay_days))
    return CandidateSpans(label_cutoff, training_start, training_end, history_start)


def refit_spans(as_of: datetime, windows: settings.Windows, *, label_times: bool) -> CandidateSpans:
    """Lay out the spans of a winner's refit at `as_of`: up to the youngest rows whose labels can be known.

    Args:
        as_of: of the run (aware; floored to the hour).
        windows: the settings.
        label_times: whether the data say when a label became known; otherwise it is the label delay after its row.
    """
    as_of = whole_hour(as_of)
    training_end = as_of if label_times else as_of - timedelta(days=windows.label_delay_days)
    training_start = training_end - timedelta(days=windows.training_window_days)
    return CandidateSpans(
        as_of, training_start, training_end, history_before(training_start, timedelta(days=windows.label_delay_days))
    )


def first_champion_cutoff(as_of: datetime, windows: settings.Windows) -> datetime:
    """The label cut-off of the first champion at `as_of`: its whole hold-out, of `holdout_days`, has matured."""
    holdout_start = matured_until(as_of, windows) - timedelta(days=windows.holdout_days)
    return holdout_start - training_gap(windows) + timedelta(days=windows.maturity_days)


def matured_until(as_of: datetime, windows: settings.Windows) -> datetime:
    """The end of a hold-out at `as_of` (aware; floored to the hour): labels of earlier rows count as final."""
    return whole_hour(as_of) - timedelta(days=windows.maturity_days)


def training_gap(windows: settings.Windows) -> timedelta:
    """What lies between a model's training and its hold-out."""
    return timedelta(days=windows.training_gap_days)


def history_before(training_start: datetime, label_delay: timedelta) -> datetime:
    """The oldest transaction that a feature of a row at `training_start` can depend on."""
    # A terminal reads frauds back to the label delay and one look-back, each judged by its card's own look-back.
    return training_start - label_delay - 2 * timedelta(days=LOOK_BACK_DAYS)


def whole_hour(moment: datetime) -> datetime:
    """The last whole hour not after `moment`, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
