"""What a run leaves for its schedule: `schedule/MODEL.json` says what is due next, and from when on.

The schedule sees neither the data nor the log. It starts a cluster when this file says that a candidate is to be opened
or a look is due. The file is a forecast of the run that wrote it: it knows the frauds whose labels that run had read.
"""

from contextlib import suppress
from datetime import datetime

from pydantic import ValidationError

from fraud_detection.outputs import decisions_folder, is_intervention, schedule_file
from fraud_detection.schema import CandidateKey, Stored
from fraud_detection.storage import Storage

SCHEDULE_VERSION = 1


class Maturing(Stored):
    """Frauds of a hold-out that begin to count at the same as-of time."""

    frauds: int
    new_cards: int  # of their cards those without an earlier fraud in the hold-out


class ScheduledLook(Stored):
    """The next look at one candidate in shadow. Cards that were known as compromised are left out of all counts."""

    candidate: CandidateKey
    number: int
    holdout_start: datetime
    frauds: int  # that count at the as-of time of the run
    frauds_needed: int
    fraud_cards: int  # likewise
    fraud_cards_needed: int
    maturing: dict[datetime, Maturing]  # by the as-of time from which on they count; up to the one that makes it due


class ScheduleBlock(Stored):
    """What stops looks."""

    reason: str
    until: datetime | None  # None: until a person changes it


class Schedule(Stored):
    """What is due after a run."""

    schema_version: int = SCHEDULE_VERSION
    model_name: str
    as_of: datetime  # of the run
    written_at: datetime  # its clock
    champion_version: int | None  # in service after the run
    compared_with: int | None  # the champion to which `looks` belong; another one serves after a promotion
    next_candidate_at: datetime  # without a champion: the next test of a model that may become the first
    look_every_hours: int  # due looks wait for the next of these hours, counted from 1970
    block: ScheduleBlock | None
    late_frauds_a_day: float  # that counted within a day after their label became known: no earlier run foresaw them
    looks: tuple[ScheduledLook, ...]
    commands: int | None = None  # of people, in the log when the run began; None in what an earlier release left
    changed: str | None = None  # what a person did to the model since the run


def count_commands(storage: Storage, model_name: str) -> int:
    """How many commands of people the log holds: it only grows."""
    return sum(map(is_intervention, storage.names(decisions_folder(model_name))))


def write_schedule(storage: Storage, schedule: Schedule) -> None:
    """Replace what an earlier run wrote, unless a run with a later as-of time has written meanwhile.

    What a person did while the run went on is marked: the run does not know of it. Commands write to the log and mark
    the schedule under the model's lease. Hold it, too.
    """
    written = _read(storage, schedule.model_name)
    if written is not None and written.as_of > schedule.as_of:
        return
    missed = schedule.commands is not None and count_commands(storage, schedule.model_name) > schedule.commands
    marked = (written.changed if written else None) or "a command while the last run went on"
    _write(storage, schedule.model_copy(update={"changed": marked}) if missed else schedule)


def is_written(storage: Storage, model_name: str, as_of: datetime) -> bool:
    """Whether the schedule of the run at this as-of time, or of a later one, is there and readable."""
    written = _read(storage, model_name)
    return written is not None and written.as_of >= as_of


def mark_schedule(storage: Storage, model_name: str, change: str) -> None:
    """Record that a person has changed what serves or may be promoted: another run has to find out what is due.

    Only the holder of the model's lease does, once the command is in the log.
    """
    written = _read(storage, model_name)
    if written is not None:
        _write(storage, written.model_copy(update={"changed": change}))


def _read(storage: Storage, model_name: str) -> Schedule | None:
    """The file; None where there is none, or one of another release."""
    content = storage.read(schedule_file(model_name))
    with suppress(ValidationError):
        return None if content is None else Schedule.model_validate_json(content)
    return None


def _write(storage: Storage, schedule: Schedule) -> None:
    storage.write_atomic(schedule_file(schedule.model_name), schedule.model_dump_json(indent=1).encode())
