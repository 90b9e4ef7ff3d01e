"""What each version was worth in the weeks in which it served: the records, and which weeks are due.

A look compares a candidate with the champion; a week in service says what the champion was worth where it worked. Weeks
begin on Monday, UTC. A week is measured once, when its labels have matured, for each version that has scored
transactions of it; see `service_quality`. A week without anything to measure is looked at once, too. What has not
matured is estimated once a day; see `estimates`.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from pydantic import ValidationError

from fraud_detection.outputs import service_weeks_file
from fraud_detection.schema import AlertFigures, Estimate, Stored
from fraud_detection.storage import Storage

WEEK = timedelta(days=7)


class ServiceWeek(Stored):
    """What a version was worth on the transactions of [start, end) that it scored."""

    start: datetime
    end: datetime
    version: int
    transactions: int
    frauds: int
    average_precision: Estimate | None  # None without frauds
    alerts: AlertFigures | None  # None where the version has no threshold


class ServiceEstimate(Stored):
    """What the version in service may be worth on its transactions of [start, end), whose labels have not matured."""

    start: datetime
    end: datetime
    version: int
    transactions: int
    expected: float | None  # AP; see `estimates.expected_average_precision`
    provisional: float | None  # AP; see `estimates.provisional_average_precision`
    known_frauds: int  # by then


class ServiceWeeks(Stored):
    """All measured weeks of a model, by their start and version."""

    schema_version: int = 1
    weeks: tuple[ServiceWeek, ...] = ()
    until: datetime | None = None  # the end of the last week that was looked at, also where nothing was measured
    estimate: ServiceEstimate | None = None  # the newest one

    def with_weeks(self, new: tuple[ServiceWeek, ...], until: datetime | None) -> "ServiceWeeks":
        """With further weeks; one that is there already is replaced."""
        known = {(week.start, week.version): week for week in (*self.weeks, *new)}
        return ServiceWeeks(weeks=tuple(known[key] for key in sorted(known)), until=until, estimate=self.estimate)

    @property
    def looked_until(self) -> datetime | None:
        """The end of the last week that was looked at; None before the first one."""
        return self.until or (self.weeks[-1].end if self.weeks else None)


def read_service_weeks(storage: Storage, model_name: str) -> ServiceWeeks:
    """What was measured; nothing where it is missing, damaged or of another release: it is then measured again."""
    content = storage.read(service_weeks_file(model_name))
    if content is None:
        return ServiceWeeks()
    try:
        return ServiceWeeks.model_validate_json(content)
    except ValidationError:
        return ServiceWeeks()


def write_service_weeks(storage: Storage, model_name: str, weeks: ServiceWeeks) -> None:
    """Replace what was measured."""
    storage.write_atomic(service_weeks_file(model_name), weeks.model_dump_json().encode())


def due_weeks(known: ServiceWeeks, first: date, matured: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The weeks that have matured and were not looked at, oldest first.

    Args:
        known: what was looked at.
        first: the first day with scores.
        matured: labels of earlier transactions are final.
    """
    start = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=first.weekday())
    start = max(start, known.looked_until or start)
    while start + WEEK <= matured:
        yield start, start + WEEK
        start += WEEK


def week_figures(week: ServiceWeek) -> dict[str, float]:
    """The few figures of a week that become metrics, by name; those that nothing was measured of are left out."""
    found: dict[str, float | None] = {}
    if week.average_precision is not None:
        found["average_precision"] = week.average_precision.value
    if (alerts := week.alerts) is not None:
        found |= {
            "alerts_a_day": alerts.alerts_a_day,
            "alert_precision": alerts.precision,
            "value_recall": alerts.value_recall,
            "value_a_day": alerts.value_a_day.value,
        }
    return {name: value for name, value in found.items() if value is not None}


def estimate_figures(estimate: ServiceEstimate) -> dict[str, float]:
    """The figures of an estimate that become metrics, by name; those that are not known are left out."""
    found = {
        "expected_average_precision": estimate.expected,
        "provisional_average_precision": estimate.provisional,
    }
    return {name: value for name, value in found.items() if value is not None}


def estimate_text(estimate: ServiceEstimate) -> str:
    """An estimate in one line."""
    found = [f"v{estimate.version} since {estimate.start:%Y-%m-%d}: {estimate.transactions:,} transactions"]
    if estimate.expected is not None:
        found.append(f"AP {estimate.expected:.3f} by its own probabilities")
    if estimate.provisional is not None:
        found.append(f"AP {estimate.provisional:.3f} by {estimate.known_frauds:,} early frauds")
    return " · ".join(found)


def week_text(week: ServiceWeek) -> str:
    """A week in one line."""
    found = [f"v{week.version} in the week of {week.start:%Y-%m-%d}: {week.transactions:,} / {week.frauds:,} frauds"]
    if (ap := week.average_precision) is not None:
        bounds = "" if ap.low is None or ap.high is None else f" [{ap.low:.3f}, {ap.high:.3f}]"
        found.append(f"AP {ap.value:.3f}{bounds}")
    if (alerts := week.alerts) is not None:
        right = "" if alerts.precision is None else f", {alerts.precision:.0%} of them right"
        found.append(f"{alerts.alerts_a_day:.1f} alerts a day{right}")
        if alerts.value_recall is not None:
            found.append(f"{alerts.value_recall:.0%} of the stolen value found")
    return " · ".join(found)
