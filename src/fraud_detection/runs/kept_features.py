"""What `fraud-detection features` does: compute the features of days ahead of a run, check them, or replace them."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from enum import StrEnum

from fraud_detection.errors import FraudDetectionError
from fraud_detection.features.between import KeptFeatures
from fraud_detection.features.store.validity import midnight
from fraud_detection.runs.progress import Progress, Stopwatch
from fraud_detection.runs.reading import read_input
from fraud_detection.runs.request import Request
from fraud_detection.schema import Stored
from fraud_detection.spark_session import session
from fraud_detection.time_windows import whole_hour

_NAMED = 5


class Action(StrEnum):
    """What to do with the features of days."""

    MATERIALIZE = "materialize"
    VERIFY = "verify"
    REBUILD = "rebuild"


class FeaturesResult(Stored):
    """What was done; days are those with rows."""

    action: Action
    as_of: datetime
    since: date
    days: int  # that can be kept: over, and not to be changed by labels that are not known yet
    computed: int
    missing: int  # of `days`, after the action
    different: tuple[date, ...]  # whose file does not hold what is computed now


def keep_features(
    request: Request, action: Action, since: datetime | None, progress: Progress, watch: Stopwatch
) -> FeaturesResult:
    """Compute or check the features of the days of an input.

    Args:
        request: whose input it is.
        action: what to do.
        since: from the day of this time on; None: all days.
        progress: takes lines.
        watch: takes the phases.

    Raises:
        DataError: the input cannot be read, or too many of its rows are bad.
        ServiceUnavailableError: a file of the store is damaged, or others were first each time.
    """
    as_of = request.as_of and whole_hour(request.as_of)
    with watch("start engine"), session(request.engine) as spark:
        with watch("read and check"):
            transactions, as_of = read_input(spark, request, as_of, progress)
        stored = transactions.stored
        assert stored is not None  # noqa: S101 - it was read from the store
        first = max(filter(None, (transactions.profile.first, since)))
        features = KeptFeatures(stored, transactions, request.settings)
        with watch("features"), transactions.store_errors():
            wanted = features.wanted(first, as_of)
            held = features.held(wanted)
            different, computed = list[int](), 0
            if action is Action.VERIFY:
                different = features.different(held)
            else:
                todo = wanted if action is Action.REBUILD else {day: wanted[day] for day in wanted.keys() - held.keys()}
                held |= features.compute(todo)
                computed = len(todo)
    return FeaturesResult(
        action=action,
        as_of=as_of,
        since=first.astimezone(UTC).date(),
        days=len(wanted),
        computed=computed,
        missing=len(wanted.keys() - held.keys()),
        different=tuple(_dates(different)),
    )


def features_line(found: FeaturesResult) -> str:
    """What was done, for the log."""
    text = f"{found.days} day(s) since {found.since} can be kept"
    match found.action:
        case Action.VERIFY:
            checked = found.days - found.missing
            return f"{text} · {checked} checked · {len(found.different)} different · {found.missing} missing"
        case _:
            return f"{text} · {found.computed} computed"


def require_equal(found: FeaturesResult, again: str) -> None:
    """Check that all features are what is computed now.

    Args:
        found: by `verify`.
        again: the command that computes them anew.

    Raises:
        FraudDetectionError: some are not.
    """
    if not found.different:
        return
    days = ", ".join(map(str, found.different[:_NAMED])) + (", …" if len(found.different) > _NAMED else "")
    raise FraudDetectionError(
        f"the features of {len(found.different)} day(s) are not what is computed now ({days}); expected the same, bit"
        f" for bit; next: {again}"
    )


def _dates(days: Iterable[int]) -> Iterable[date]:
    return (midnight(day).date() for day in days)
