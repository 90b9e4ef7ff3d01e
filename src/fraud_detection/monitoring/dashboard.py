"""The dashboard of a model: one page that every run makes anew, from the decision log and the measured weeks.

It holds no row of data. What it cannot read of an earlier run it leaves out: the log is the record, not the page.
"""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from fraud_detection.monitoring.history import HISTORY_VERSION, History, with_entries
from fraud_detection.monitoring.page import render
from fraud_detection.monitoring.service_weeks import read_service_weeks
from fraud_detection.outputs import dashboard_file, dashboard_history_file
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage


def write_dashboard(
    storage: Storage, entries: Sequence[LogEntry], settings: Settings, now: datetime, *, anew: bool = False
) -> str:
    """Write the page and what it shows of earlier times; repeated, it writes the same.

    Args:
        storage: the output folder.
        entries: of the model's decision log, consecutive and up to the newest; at least those of the candidates in
            shadow.
        settings: of the model.
        now: when the page is made.
        anew: from these entries alone, which are the whole log then.

    Returns:
        The path or URL of the page.

    Raises:
        FraudDetectionError: the storage refuses.
    """
    name = settings.model_name
    history = with_entries(History() if anew else _read(storage, name), entries)
    storage.write_atomic(dashboard_history_file(name), history.model_dump_json().encode())
    worth = read_service_weeks(storage, name)
    page = render(name, history, worth, entries, settings.promotion.approval_days, now)
    return storage.write_atomic(dashboard_file(name), page.encode())


def _read(storage: Storage, model_name: str) -> History:
    """What earlier runs left; nothing where it is missing, damaged or of another release."""
    content = storage.read(dashboard_history_file(model_name))
    if content is None:
        return History()
    try:
        history = History.model_validate_json(content)
    except ValidationError:
        return History()
    return history if history.schema_version == HISTORY_VERSION else History()
