"""Whether anything is due: what the last job wrote in `schedule/MODEL.json`, and the time.

Nothing of Airflow is needed here, so the library's tests and benchmarks run this very code. The file is described by
`fraud_detection.schedule`; `tests/test_schedule.py` holds both to one description.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

VERSION = 1
"""Of the file that this code reads."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Due:
    """Whether a run is worth a cluster, and why."""

    due: bool
    reason: str
    decided: str | None = None
    """As-of time of the last run that decided, where this one's is not later: it would change nothing."""


def find_due(content: bytes | None, as_of: datetime, max_hours: float) -> Due:
    """Whether a run at this as-of time has anything to do.

    Args:
        content: of `schedule/MODEL.json`; None where there is none.
        as_of: of the run, a whole hour.
        max_hours: after so long a run is due in any case. What the last job could not know of may have come meanwhile.
    """
    if content is None:
        return Due(True, "due: no run has left a schedule yet")
    schedule = _parsed(content)
    if schedule is None:
        return Due(True, f"due: the schedule that the last run left is not of version {VERSION}")
    written = _time(schedule["as_of"])
    if as_of <= written:
        return Due(False, f"{_shown(as_of)} is decided already", written.isoformat())
    reason = _reason(schedule, as_of)
    if reason is None and as_of - written >= timedelta(hours=max_hours):
        reason = f"the last run was at {_shown(written)}, {max_hours:g} hours ago or more"
    return Due(False, _nothing(schedule, as_of)) if reason is None else Due(True, f"due: {reason}")


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("schema_version") == VERSION else None


def _reason(schedule: Mapping[str, Any], as_of: datetime) -> str | None:
    """Why a run is due; None if it is not."""
    if schedule["changed"] is not None:
        return f"what serves was changed since the last run ({schedule['changed']})"
    if as_of >= _time(schedule["next_candidate_at"]):
        if schedule["champion_version"] is None:
            return "no champion is in service; a model is to be tested that may become the first"
        return f"a candidate is to be opened since {_shown(_time(schedule['next_candidate_at']))}"
    # The last hour at which looks are taken: if it passed while nothing ran, they are due now.
    grid = _floor(as_of, schedule["look_every_hours"])
    if grid <= _time(schedule["as_of"]):
        return None
    if schedule["champion_version"] != schedule["compared_with"]:
        return f"version {schedule['champion_version']} serves since the last run; looks are to be counted against it"
    if _blocked(schedule, as_of):
        return None
    due = [look for look in schedule["looks"] if _is_due(look, grid, schedule)]
    return _looks_due(due, grid) if due else None


def _is_due(look: Mapping[str, Any], at: datetime, schedule: Mapping[str, Any]) -> bool:
    """Whether a look is due at an hour, if as many labels come late as usual.

    A run that comes a little too early costs a cluster; one that waits for the next hour of looks costs hours.
    """
    frauds, cards = _counts(look, at)
    late = schedule["late_frauds_a_day"] * ((at - _time(schedule["as_of"])) / _DAY)
    expected = math.ceil(late + math.sqrt(late))
    return frauds + expected >= look["frauds_needed"] and cards + expected >= look["fraud_cards_needed"]


def _counts(look: Mapping[str, Any], at: datetime) -> tuple[int, int]:
    """Known frauds, and their cards, that count at an hour."""
    matured = [more for hour, more in look["maturing"].items() if _time(hour) <= at]
    frauds = look["frauds"] + sum(more["frauds"] for more in matured)
    return frauds, look["fraud_cards"] + sum(more["new_cards"] for more in matured)


def _blocked(schedule: Mapping[str, Any], at: datetime) -> bool:
    block = schedule["block"]
    return block is not None and (block["until"] is None or at < _time(block["until"]))


def _looks_due(due: list[Mapping[str, Any]], at: datetime) -> str:
    first = min(due, key=lambda look: look["candidate"]["label_cutoff"])
    more = f", and at {len(due) - 1} more" if len(due) > 1 else ""
    return f"look {first['number']} at {_progress(first, at)}{more}"


def _nothing(schedule: Mapping[str, Any], as_of: datetime) -> str:
    """What the next run waits for."""
    at = _shown(_time(schedule["next_candidate_at"]))
    if schedule["champion_version"] is None:
        return f"nothing due: no champion is in service; the next model is tested {at}"
    return f"nothing due: {_waits_for(schedule, as_of)}; next candidate {at}"


def _waits_for(schedule: Mapping[str, Any], as_of: datetime) -> str:
    if schedule["champion_version"] != schedule["compared_with"]:
        return f"version {schedule['champion_version']} serves; looks are counted {_next_looks(schedule, as_of)}"
    if _blocked(schedule, as_of):
        return str(schedule["block"]["reason"])
    if not schedule["looks"]:
        return "no candidate is in shadow"
    nearest = min(schedule["looks"], key=lambda look: look["frauds_needed"] - _counts(look, as_of)[0])
    waits = f"; looks are taken {_next_looks(schedule, as_of)}" if _is_due(nearest, as_of, schedule) else ""
    return f"{_progress(nearest, as_of)}{waits}"


def _progress(look: Mapping[str, Any], at: datetime) -> str:
    """How far a candidate is on its way to the next look."""
    frauds, cards = _counts(look, at)
    name = f"candidate {_shown(_time(look['candidate']['label_cutoff']))}"
    if frauds >= look["frauds_needed"] and cards < look["fraud_cards_needed"]:
        return f"{name} has frauds on {cards} of {look['fraud_cards_needed']} cards"
    return f"{name} has {frauds} of {look['frauds_needed']} frauds"


def _next_looks(schedule: Mapping[str, Any], as_of: datetime) -> str:
    every = schedule["look_every_hours"]
    return _shown(_floor(as_of, every) + timedelta(hours=every))


def _floor(at: datetime, hours: int) -> datetime:
    """The last point of the grid that is not after `at`; the grid counts from 1970."""
    return _EPOCH + (at - _EPOCH) // timedelta(hours=hours) * timedelta(hours=hours)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
