"""How much there is to learn since the last decision, and whether that is worth a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from fraud_detection_common.outputs import RunOutputs


@dataclass(frozen=True)
class Freshness:
    """How many frauds have matured since the last decision, and whether the run should train."""

    train: bool
    reason: str
    last_decision: str | None
    new_frauds: int | None


def measure_freshness(
    outputs: RunOutputs, model_name: str, as_of: datetime, min_new_frauds: int, max_hours: float
) -> Freshness:
    """Whether a run at this as-of time is worth a cluster.

    Frauds whose labels arrived after the last job read the data are not counted, so after `max_hours` without a
    decision a run trains whatever the count. Without a champion a run trains as soon as anything has matured: an hour
    without a model costs more than a cluster.
    """
    maturity = outputs.maturity(model_name)
    if maturity is None:
        return Freshness(True, "no run has decided yet", None, None)
    seen = datetime.fromisoformat(maturity["as_of"])
    last = outputs.last_decision(model_name, since=seen) or seen
    new = sum(count for hour, count in maturity["frauds"].items() if last < datetime.fromisoformat(hour) <= as_of)
    numbers = f"{new} new frauds matured in {last:%Y-%m-%d %H:%M} … {as_of:%Y-%m-%d %H:%M}"
    if as_of <= last:
        return Freshness(False, f"{as_of:%Y-%m-%d %H:%M} is decided already", last.isoformat(), new)
    if _has_no_champion(outputs.decision(model_name, last)) or outputs.is_champion_retired(model_name, last):
        matured = _matured_transactions(maturity, last, as_of)
        if matured != 0:
            what = "transactions" if matured is None else f"{matured} transactions"
            reason = f"no champion is in service, and {what} matured in {last:%Y-%m-%d %H:%M} … {as_of:%Y-%m-%d %H:%M}"
            return Freshness(True, reason, last.isoformat(), new)
    if new >= min_new_frauds:
        return Freshness(True, f"{numbers}; {min_new_frauds} are enough", last.isoformat(), new)
    if as_of - last >= timedelta(hours=max_hours):
        return Freshness(True, f"{numbers}, but {max_hours:g} h without a decision are enough", last.isoformat(), new)
    return Freshness(False, f"{numbers}; a run needs {min_new_frauds}", last.isoformat(), new)


def _has_no_champion(decision: Mapping[str, Any] | None) -> bool:
    """Whether the newest decision left no model in service."""
    return decision is not None and decision["version"] is None and decision["champion_version"] is None


def _matured_transactions(maturity: Mapping[str, Any], after: datetime, until: datetime) -> int | None:
    """How many transactions have matured; None if the last job, of an earlier release, did not record it."""
    by_hour = maturity.get("transactions")
    if by_hour is None:
        return None
    return sum(count for hour, count in by_hour.items() if after < datetime.fromisoformat(hour) <= until)


def require_undecided(as_of: datetime, found: Freshness) -> None:
    """Fail without a retry if the hour is decided: a job would train nothing and only repeat that decision."""
    last = datetime.fromisoformat(found.last_decision) if found.last_decision else None
    if last is not None and as_of <= last:
        raise AirflowFailException(
            f"{found.reason}, and a job would train nothing; the next hour to decide is "
            f"{last + timedelta(hours=1):%Y-%m-%d %H:%M} UTC; next: trigger the run then"
        )
