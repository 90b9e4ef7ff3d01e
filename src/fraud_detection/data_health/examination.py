"""All checks of the input's counts in one place, and what follows from them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fraud_detection.data_health.counts import CountBand, HourlyCounts
from fraud_detection.data_health.drift import check_drift
from fraud_detection.data_health.finding import Finding
from fraud_detection.data_health.fraud_rate import check_fraud_rate, fraud_band
from fraud_detection.data_health.known_labels import check_known_labels, known_labels
from fraud_detection.data_health.label_delay import DelayCounts, check_label_delay
from fraud_detection.data_health.volume import check_volume, volume_band
from fraud_detection.schema import Check, DriftRecord, KnownLabels
from fraud_detection.settings import AcceptedChange, DataHealth, HealthCheck, Settings
from fraud_detection.time_windows import matured_until, training_gap

_NAMED = 2  # findings in one reason; the checks of the decision hold all


@dataclass(frozen=True)
class Verdict:
    """What follows from findings."""

    stops: tuple[Finding, ...] = ()
    """Failed, and not accepted: the run decides nothing."""
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    """Each once; of several days the first that failed."""

    def beside(self, other: "Verdict") -> "Verdict":
        """The verdict on the findings of both."""
        return Verdict(self.stops + other.stops, self.warnings + other.warnings, self.checks + other.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that stop the run."""
        names = {finding.check.name for finding in self.stops}
        return tuple(check for check in self.checks if check.name in names and not check.passed)

    @property
    def reason(self) -> str:
        """Why the run stops, and what accepts it."""
        named = [finding.text for finding in self.stops[:_NAMED]]
        unnamed = len(self.stops) - len(named)
        more = [f"{unnamed} more findings"] if unnamed else []
        first = self.stops[0]
        accept = (
            f"if this is right, set data_health.accepted: [{{check: {first.check.name}, from: {first.first},"
            f" to: {first.last}, reason: …}}]"
        )
        return "; ".join(["the data are not sound", *named, *more, accept])


@dataclass(frozen=True, eq=False)
class Health:
    """What a run has found out about its input."""

    verdict: Verdict
    volume: CountBand
    """The newest days, of 24 hours each."""
    frauds: CountBand
    """The matured calendar days that a run may use."""
    known: KnownLabels | None
    """For the next run to compare with; None where the data are not sound: what was kept before stays."""
    drift: DriftRecord | None = None
    """Of the champion's inputs and scores; None where it was not measured."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """The inputs, or the score, that have drifted."""
        return self.drift.drifted if self.drift is not None else ()

    def with_drift(self, drift: DriftRecord | None, settings: DataHealth) -> "Health":
        """As it is with what the distributions say, too."""
        if drift is None:
            return self
        verdict = self.verdict.beside(judge(check_drift(drift), settings))
        return replace(self, verdict=verdict, drift=drift, known=None if verdict.stops else self.known)


def judge(findings: Iterable[Finding], settings: DataHealth) -> Verdict:
    """Sort findings by what follows from them."""
    found = tuple(findings)
    failed = [finding for finding in found if not finding.check.passed]
    accepted = {id(finding): _accepted(finding, settings) for finding in failed}
    stops = tuple(one for one in failed if accepted[id(one)] is None and HealthCheck(one.check.name) in settings.stop)
    warnings = tuple(_warning(one, accepted[id(one)]) for one in failed if one not in stops)
    checks: dict[str, Check] = {}
    for check in (finding.check for finding in (*failed, *found)):
        checks.setdefault(check.name, check)
    return Verdict(stops, warnings, tuple(checks.values()))


def examine(
    hourly: HourlyCounts, delays: DelayCounts, as_of: datetime, earlier: KnownLabels | None, settings: Settings
) -> Health:
    """Check the counts of the input as it was known at an as-of time.

    Args:
        hourly: of all good transactions before the as-of time.
        delays: of their known frauds; empty where the data have no label times.
        as_of: of the run.
        earlier: what an earlier run knew; None where there was none.
        settings: of the run.
    """
    own, matured = settings.data_health, matured_until(as_of, settings.windows)
    oldest = _oldest_used(matured, settings)
    daily, yesterday = hourly.by_day(), (matured - timedelta(days=1)).date()
    used = daily.between(oldest.date(), yesterday)
    frauds = fraud_band(used, own, unlabelled_is_genuine=settings.data.unlabelled_is_genuine)
    before = earlier if earlier is not None and earlier.as_of <= as_of else None
    of_labels = check_known_labels(before, used, own)
    verdict = judge(
        (
            *check_volume(hourly, as_of, own),
            *check_fraud_rate(frauds),
            *check_label_delay(delays, matured, settings.windows.maturity_days, own),
            *of_labels,
        ),
        own,
    )
    kept = before if all(finding.check.passed for finding in of_labels) else None
    known = None if verdict.stops else known_labels(settings.model_name, used, as_of, kept)
    return Health(verdict, volume_band(hourly, as_of, own), frauds, known)


def _oldest_used(matured: datetime, settings: Settings) -> datetime:
    """The first row that a candidate alive may have been trained on."""
    days = settings.windows.training_window_days + max(settings.comparison.shadow_days, settings.windows.holdout_days)
    return matured - timedelta(days=days) - training_gap(settings.windows)


def _accepted(finding: Finding, settings: DataHealth) -> AcceptedChange | None:
    """The setting that accepts a finding: of the same check, for a span that touches the finding's days."""
    for change in settings.accepted:
        if change.check == finding.check.name and change.first <= finding.last and finding.first <= change.last:
            return change
    return None


def _warning(finding: Finding, accepted: AcceptedChange | None) -> str:
    return finding.text if accepted is None else f"accepted ({accepted.reason}): {finding.text}"
