"""Examines the data of a run before it opens anything."""

from datetime import datetime

from pydantic import ValidationError

from fraud_detection.data_health.counts import HourlyCounts
from fraud_detection.data_health.examination import Health, examine
from fraud_detection.data_health.label_delay import DelayCounts
from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import known_labels_file
from fraud_detection.schema import KnownLabels
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage
from fraud_detection.transactions.profile import Profile


def examine_data(profile: Profile, as_of: datetime, output: Storage, settings: Settings) -> Health:
    """Check the input as it was known at an as-of time against its own history, and what an earlier run knew."""
    hourly = HourlyCounts(
        profile.hours,
        profile.transactions_by_hour,
        profile.frauds_by_hour,
        profile.unlabelled_by_hour,
        profile.flags.blocked_unlabelled,
    )
    delays = profile.delays_by_hour
    by_day = DelayCounts(delays.hours.astype("datetime64[D]"), delays.delay_hours, delays.frauds)
    return examine(hourly, by_day, as_of, read_known_labels(output, settings.model_name), settings)


def read_known_labels(output: Storage, model_name: str) -> KnownLabels | None:
    """What earlier runs knew; None before the first.

    Raises:
        FraudDetectionError: the file is broken.
    """
    name = known_labels_file(model_name)
    written = output.read(name)
    if written is None:
        return None
    try:
        return KnownLabels.model_validate_json(written)
    except ValidationError as error:
        raise FraudDetectionError(
            f"{output.url(name)} is not a count of known labels ({error.error_count()} errors); restore it, or delete"
            " it: the next run then cannot tell whether labels were lost since the last one"
        ) from error


def write_known_labels(output: Storage, known: KnownLabels) -> None:
    """Replace what an earlier run wrote, unless a run with a later as-of time has written meanwhile."""
    earlier = read_known_labels(output, known.model_name)
    if earlier is None or earlier.as_of <= known.as_of:
        output.write_atomic(known_labels_file(known.model_name), known.model_dump_json().encode())
