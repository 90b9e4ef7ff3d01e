"""The chain of the decision log: every entry holds the digest of the one before, and MLflow the newest one's.

So an entry that is lost, changed or put in between is noticed, and no run counts looks in a log that is not whole:

    entry 1 ◁── entry 2 ◁── entry 3 ◁── tag `fraud_detection.log_head` of the registered model

An entry is written before the tag moves, and a process may be killed between the two: the tag may be one entry behind,
never two. Before the first promotion there is no registered model and no tag; after it the tag moves with every entry,
and one that is missing was deleted.

Entries of earlier releases are not linked. The first linked entry holds the digest of the newest of them, and they are
accepted as they are. So is everything that is older than an `accept-log`, a user's decision to go on with the log as it
is: it is linked to nothing, and holds the digest of all that the log held.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self, TypeVar

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.outputs import decisions_folder, first_name_since, is_intervention, time_in
from fraud_detection.registry.aliases import registered_model
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import (
    Action,
    DecisionLog,
    Intervention,
    LogEntry,
    entry_name,
    entry_time,
    stored_form,
)
from fraud_detection.registry.lease import CLOCK_SKEW, Lease
from fraud_detection.schema import Decision, Opening

RECENT = timedelta(days=45)
"""What a run reads before its as-of time: longer than the risk period, and than a candidate lives by default."""
HEAD_TAG = "fraud_detection.log_head"
"""Of the registered model: name and digest of the newest entry."""
GENESIS = hashlib.sha256(b"").hexdigest()
"""What the first entry of an empty log holds."""

_BATCH = 32
_LATE = timedelta(days=2)
_Linked = TypeVar("_Linked", Decision, Intervention, Opening)


class LogMismatchError(FraudDetectionError):
    """The log is not the one that was written."""


@dataclass(frozen=True)
class VerifiedLog:
    """Entries that were written one after the other, and nothing was lost in between."""

    entries: tuple[LogEntry, ...]
    """In the order in which they came into force."""
    head: str
    """Digest of the newest entry."""


def verify_chain(context: Context, since: datetime | None = None) -> VerifiedLog:
    """The entries since then, by the times in their names, and all interventions; None reads the whole log.

    Raises:
        LogMismatchError: entries are missing, were changed or do not follow from the others; they are named.
    """
    while True:
        tag = _read_tag(context)
        try:
            return _verify(context, _Items(context.log, context.log.names(), _first(context, since)), tag)
        except LogMismatchError:
            if _read_tag(context) == tag:
                raise  # else another process has written entries meanwhile


def head_digest(context: Context) -> str:
    """Digest of the newest entry; that of the one before the fault if the log does not match."""
    return _newest(context, _read_tag(context)).sha256


def append(context: Context, lease: Lease, entry: _Linked) -> _Linked | None:
    """Link an entry to the newest one, write it and move the tag; only the holder of the lease may.

    It never refuses because of an earlier entry, since no person's command may depend on the state of the log: what is
    wrong with the log stays wrong, and the next run names it.

    Returns:
        The entry as it was written; None if its as-of time or pin has such an entry already.
    """
    tag = _read_tag(context)
    before = _newest(context, tag)
    if before.name and before != tag:
        _move_tag(context, before)
    linked = entry.model_copy(update={"previous_entry": before.sha256})
    return linked if write_and_tag(context, lease, linked) else None


def write_and_tag(context: Context, lease: Lease, linked: LogEntry) -> bool:
    """Write an entry that is linked already, and move the tag; False if there was such an entry."""
    lease.require_held()
    if not context.log.write(linked):
        return False
    lease.require_held()
    _move_tag(context, _Head(entry_name(linked), sha256(stored_form(linked))))
    if isinstance(linked, Intervention):
        context.log.mark_schedule(linked)
    return True


def restore_head(context: Context, lease: Lease) -> None:
    """Move the tag on to the newest entry: a late request may have set it to an older one.

    It goes from the tag's entry to its only successor, as long as there is one; any other fault stays for the next run
    to name.
    """
    tag = _read_tag(context)
    if tag is None:
        return
    items = _Items(context.log, context.log.names(), "")
    item = items.named(tag.name)
    if item is None or item.sha256 != tag.sha256:
        return
    while len(following := items.after(item.sha256)) == 1:
        item = following[0]
    head = _Head(item.name, item.sha256)
    if head != tag:
        lease.require_held()
        _move_tag(context, head)


def content_digest(log: DecisionLog) -> str:
    """Digest of all that the log holds: of a line `NAME SHA-256` for each entry."""
    contents = log.contents(log.names())
    return sha256("".join(f"{name} {sha256(contents[name])}\n" for name in sorted(contents)).encode())


def sha256(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class _Head:
    """The newest entry, as the tag names it."""

    name: str
    sha256: str

    @classmethod
    def from_tag(cls, text: str) -> Self:
        name, _, digest = text.partition(" ")
        return cls(name, digest)

    @property
    def tag(self) -> str:
        return f"{self.name} {self.sha256}"

    @property
    def is_tag(self) -> bool:
        """Whether this program can have written it."""
        return bool(self.name) and re.fullmatch(r"[0-9a-f]{64}", self.sha256) is not None


_EMPTY = _Head("", GENESIS)


@dataclass(frozen=True)
class _Item:
    """One entry as it is stored."""

    name: str
    sha256: str
    entry: LogEntry

    @property
    def previous(self) -> str | None:
        return self.entry.previous_entry

    @property
    def time(self) -> datetime:
        return entry_time(self.entry)

    @property
    def accepts_log(self) -> bool:
        return isinstance(self.entry, Intervention) and self.entry.action is Action.ACCEPT_LOG

    @property
    def begins_chain(self) -> bool:
        """Whether nothing before it is linked."""
        return self.previous in (None, GENESIS) or self.accepts_log


class _Items:
    """The entries since a time, and all interventions; older ones are read when they are asked for, newest first."""

    def __init__(self, log: DecisionLog, names: list[str], first: str) -> None:
        """`first`: the name from which on they are read at once."""
        self._log = log
        self.read: dict[str, _Item] = {}
        self._by_digest: dict[str, _Item] = {}
        self._after: defaultdict[str | None, list[_Item]] = defaultdict(list)
        self._unread = [name for name in names if name < first and not is_intervention(name)]
        self._read([name for name in names if name >= first or is_intervention(name)])
        self.recent = [item for name, item in self.read.items() if name >= first]

    def find(self, digest: str) -> _Item | None:
        """The entry with that digest."""
        while digest not in self._by_digest and self._unread:
            self._read([self._unread.pop() for _ in range(min(_BATCH, len(self._unread)))])
        return self._by_digest.get(digest)

    def named(self, name: str) -> _Item | None:
        """The entry of that name."""
        if name in self._unread:
            self._unread.remove(name)
            self._read([name])
        return self.read.get(name)

    def after(self, digest: str) -> list[_Item]:
        """The entries, of those that were read, that hold this digest."""
        return self._after[digest]

    def newest(self) -> _Item | None:
        """The entry, of those that were read, that came into force last."""
        if not self.read and self._unread:
            self._read([self._unread.pop() for _ in range(min(_BATCH, len(self._unread)))])
        return max(self.read.values(), key=lambda item: (item.time, item.name), default=None)

    def _read(self, names: Iterable[str]) -> None:
        for name, content in self._log.contents(names).items():
            item = _Item(name, sha256(content), self._log.parse(name, content))
            self.read[name] = self._by_digest[item.sha256] = item
            self._after[item.previous].append(item)


def _verify(context: Context, items: _Items, tag: _Head | None) -> VerifiedLog:
    head = _head(context, items, tag)
    if head is not None:
        _require_chain(context, items, head)
    entries = sorted(items.read.values(), key=lambda item: (item.time, item.name))
    return VerifiedLog(tuple(item.entry for item in entries), GENESIS if head is None else head.sha256)


def _head(context: Context, items: _Items, tag: _Head | None) -> _Item | None:
    """The newest entry: the one that the tag names, or its only successor."""
    if tag is None:
        tips = [item for item in items.read.values() if item.previous is not None and not items.after(item.sha256)]
        newest = max(tips, key=lambda item: (item.time, item.name)) if tips else items.newest()
        _require_never_tagged(context, items, newest)
        return newest
    if not tag.is_tag:
        raise _mismatch(
            context,
            f"MLflow's tag {HEAD_TAG} is {tag.tag.strip()[:100]!r}; expected name and SHA-256 of the newest entry",
        )
    tagged = items.named(tag.name)
    if tagged is None or tagged.sha256 != tag.sha256:
        what = "is missing" if tagged is None else f"was changed (found SHA-256 {tagged.sha256[:12]}…)"
        raise _mismatch(
            context, f"{_shown(context, tag.name)} {what}; expected SHA-256 {tag.sha256[:12]}… of the newest entry"
        )
    following = items.after(tagged.sha256)
    if not following:
        return tagged
    if len(following) > 1 or items.after(following[0].sha256):
        raise _mismatch(
            context,
            f"more than one entry follows {tagged.name}, which is the newest according to MLflow's tag {HEAD_TAG}:"
            f" {_listed(following)}",
        )
    return following[0]


def _require_never_tagged(context: Context, items: _Items, newest: _Item | None) -> None:
    """Stop if the tag was deleted: there is one once an entry was written after the registered model was created.

    It may be missing for the newest entry alone, whose writer was killed.
    """
    model = registered_model(context.connection, context.name)
    if newest is None or newest.begins_chain or model is None or model.creation_timestamp is None:
        return
    before = items.find(newest.previous or "")
    if before is None or before.previous is None:
        return
    created = datetime.fromtimestamp(model.creation_timestamp / 1000, UTC)
    if created + CLOCK_SKEW < before.time:
        raise _mismatch(
            context, f"MLflow's tag {HEAD_TAG} is missing; expected name and SHA-256 of the newest entry, {newest.name}"
        )


def _require_chain(context: Context, items: _Items, head: _Item) -> None:
    """Go back from the newest entry until every recent one was met, and a run's that is older; or to where links begin.

    An intervention is no such end: it bears the time of its pin.
    """
    recent = {item.name for item in items.recent}
    linked = {item.name for item in items.recent if item.previous is not None}
    met, item = {head.name}, head
    while not item.begins_chain and (item.name in recent or is_intervention(item.name) or not linked <= met):
        previous = items.find(item.previous or "")
        if previous is None:
            ends = [other for other in items.recent if other.name in linked - met and not items.after(other.sha256)]
            last = max(ends, key=lambda other: (other.time, other.name), default=None)
            changed = "was changed" if last is None else f"it is {last.name} and was changed"
            raise _mismatch(context, f"the entry before {item.name} is missing, or {changed}")
        item = previous
        met.add(item.name)
    foreign = [other for other in items.recent if other.name not in met and not _is_accepted(other, item)]
    if foreign:
        raise _mismatch(context, f"these entries do not follow from the others: {_listed(foreign)}")


def _is_accepted(item: _Item, oldest: _Item) -> bool:
    """Whether an entry outside of the chain is older than the oldest in it, and not linked or accepted by a user."""
    older = item.time <= oldest.time + CLOCK_SKEW
    return older and (item.previous is None or oldest.accepts_log)


def _newest(context: Context, tag: _Head | None) -> _Head:
    """The newest entry, for a new one to follow, also where the log does not match."""
    names = context.log.names()
    runs = [name for name in names if not is_intervention(name)]
    first = _first(context, time_in(runs[-1]) - _LATE) if runs else ""
    if tag is not None and tag.name in runs:
        first = min(first, tag.name)
    try:
        head = _head(context, _Items(context.log, names, first), tag)
    except ServiceUnavailableError:
        raise
    except FraudDetectionError:  # the next run names the fault: it cannot follow from the tag's entry to this one
        return tag or _EMPTY
    return _EMPTY if head is None else _Head(head.name, head.sha256)


def _first(context: Context, since: datetime | None) -> str:
    """The name from which on entries are read at once."""
    return "" if since is None else first_name_since(context.name, since)


def _read_tag(context: Context) -> _Head | None:
    model = registered_model(context.connection, context.name)
    text = None if model is None else model.tags.get(HEAD_TAG)
    return None if text is None else _Head.from_tag(text)


def _move_tag(context: Context, head: _Head) -> None:
    if registered_model(context.connection, context.name) is not None:
        context.connection.client.set_registered_model_tag(context.name, HEAD_TAG, head.tag)


def _shown(context: Context, name: str) -> str:
    return context.log.url(name) if name.startswith(decisions_folder(context.name)) else repr(name)


def _listed(items: Iterable[_Item]) -> str:
    names = sorted(item.name for item in items)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _mismatch(context: Context, problem: str) -> LogMismatchError:
    return LogMismatchError(
        f"the decision log of {context.name} is not the one that was written: {problem}; nothing was measured; restore"
        f" the log from a copy, or go on with it as it is: {context.commands.accept_log}"
    )
