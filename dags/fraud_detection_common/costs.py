"""What the clusters of runs cost, and when a day's budget is used up.

Nothing of Airflow is needed here, so that the library's tests run this very code. A cluster is recorded before it is
requested and closed once it is gone: one whose run was killed in between counts by its running time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

VARIABLE = "fraud_detection_clusters"
"""The Airflow variable that holds the record: the last days' clusters, and on which day people were notified."""
KEPT = timedelta(days=8)
"""How long a closed cluster stays in the variable."""
UNSEEN = timedelta(minutes=30)
"""A request whose cluster no listing has shown by then was refused, unless it is older: the reaper needs longer."""
DELETION = timedelta(minutes=10)
"""The longest that a requested deletion is expected to take, where nobody watched it."""

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


def hosts_of(master: str, compute: str, count: int, *, preemptible: bool) -> dict[str, int]:
    """How many hosts of each class a cluster has. A class is the preset, preemptible hosts are one of their own."""
    hosts = {master: 1}
    if count:
        name = f"{compute} preemptible" if preemptible else compute
        hosts[name] = hosts.get(name, 0) + count
    return hosts


@dataclass(frozen=True)
class Prices:
    """What an hour of one host costs, by host class. Empty: costs are host hours."""

    currency: str = ""
    of_hosts: Mapping[str, float] | None = None

    def missing(self, hosts: Mapping[str, int]) -> list[str]:
        """The settings without which these hosts have no price."""
        found = [f"host_prices[{name!r}]" for name in sorted(hosts) if name not in (self.of_hosts or {})]
        return [*found, *(["currency"] if not self.currency else [])]

    def of_an_hour(self, hosts: Mapping[str, int]) -> float | None:
        """The price of an hour of a cluster with these hosts; None if one is missing."""
        if self.missing(hosts):
            return None
        return sum(count * float((self.of_hosts or {})[name]) for name, count in hosts.items())


@dataclass(frozen=True)
class ClusterSpan:
    """How long one cluster existed, and what an hour of it cost then."""

    name: str
    run: str
    """The label of its run."""
    as_of: str
    created_at: str
    hosts: Mapping[str, int]
    price_per_hour: float | None
    """In `currency`; None if no prices were set."""
    currency: str
    seen: bool = False
    """Whether the cloud has shown the cluster. A request may be refused."""
    deletion_at: str | None = None
    """When the deletion was requested, if it was by the training."""
    deleted_at: str | None = None
    """None while it exists."""

    def lasted(self, since: datetime, until: datetime) -> timedelta:
        """How long the cluster existed between two times; one that is not deleted exists at `until`."""
        end = _time(self.deleted_at) if self.deleted_at else until
        return max(timedelta(0), min(end, until) - max(_time(self.created_at), since))


@dataclass(frozen=True)
class Spent:
    """Cluster time and money of some clusters."""

    clusters: int
    seconds: float
    host_hours: float
    amount: float
    """Of the clusters with a price in `currency`."""
    currency: str
    unpriced: int
    """How many clusters have no price in this currency: `amount` lacks them."""

    @property
    def text(self) -> str:
        """In words, such as `3.86 RUB (0.2 cluster hours, 0.4 host hours)`."""
        hours = f"{self.seconds / 3600:.2f} cluster hours, {self.host_hours:.2f} host hours"
        if not self.currency:
            return hours
        lacking = f", without {self.unpriced} cluster(s) that have no price" if self.unpriced else ""
        return f"{self.amount:.2f} {self.currency} ({hours}{lacking})"


@dataclass(frozen=True)
class Ledger:
    """The clusters of the last days, oldest first."""

    clusters: tuple[ClusterSpan, ...] = ()
    announced: str = ""
    """The day on which people were notified that its budget is used up."""

    @classmethod
    def parse(cls, text: str | None) -> Ledger:
        """The content of the variable; empty if there is none.

        Raises:
            ValueError: it was not written by this code.
        """
        if not text:
            return cls()
        try:
            found = json.loads(text)
            return cls(tuple(ClusterSpan(**one) for one in found["clusters"]), str(found["announced"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the Airflow variable {VARIABLE} is not the record of clusters that the DAG wrote "
                f"({type(error).__name__}); next: restore it, or delete it, which forgets the costs of the last days"
            ) from error

    @property
    def text(self) -> str:
        """The content for the variable."""
        return json.dumps(asdict(self))

    def opened(self, span: ClusterSpan, now: datetime) -> Ledger:
        """With a cluster that is about to be requested, or was found; without those that were deleted long ago."""
        if any(one.name == span.name for one in self.clusters):
            return self.seen(span.name) if span.seen else self
        kept = [one for one in self.clusters if one.deleted_at is None or now - _time(one.deleted_at) < KEPT]
        return replace(self, clusters=(*kept, span))

    def seen(self, name: str) -> Ledger:
        """With the note that this cluster exists."""
        return self._with(name, seen=True)

    def deletion_requested(self, run: str, now: datetime) -> Ledger:
        """With the time at which a run requested the deletion of its clusters."""
        changed = self
        for one in self.clusters:
            if one.run == run and one.deleted_at is None and one.deletion_at is None:
                changed = changed._with(one.name, deletion_at=now.isoformat())
        return changed

    def settled(self, existing: Collection[str], now: datetime, run: str | None = None) -> Ledger:
        """With what a listing shows: open clusters that do not exist any more are closed, refused ones forgotten.

        Args:
            existing: names of all clusters of the run, or of the project, in any status.
            now: when they were listed.
            run: the label of the run whose clusters were listed; None for all runs.
        """
        kept = []
        for one in self.clusters:
            if one.deleted_at is not None or run not in (None, one.run):
                kept.append(one)
            elif one.name in existing:
                kept.append(replace(one, seen=True))
            elif one.seen or now - _time(one.created_at) > UNSEEN:
                kept.append(replace(one, deleted_at=_gone(one, now).isoformat()))
        return replace(self, clusters=tuple(kept))

    def closed(self, run: str, now: datetime) -> Ledger:
        """With the clusters of a run that was seen to exist closed now: their deletion was waited for."""
        changed = self
        for one in self.clusters:
            if one.run == run and one.seen and one.deleted_at is None:
                changed = changed._with(one.name, deleted_at=now.isoformat())
        return changed

    def job_options(self, run: str) -> list[str]:
        """Options by which the job of a run records what its cluster costs; none if that has no price."""
        own = [one for one in self.open if one.run == run]
        if not own or own[-1].price_per_hour is None:
            return []
        price, newest = own[-1].price_per_hour, own[-1]
        return ["--cost-per-hour", str(price), "--currency", newest.currency, "--cost-since", newest.created_at]

    @property
    def open(self) -> tuple[ClusterSpan, ...]:
        """The clusters that may exist."""
        return tuple(one for one in self.clusters if one.deleted_at is None)

    def spent_on(self, day: datetime, now: datetime, currency: str) -> Spent:
        """What the clusters cost on one day, UTC, until now. A cluster counts on each day by its hours of that day."""
        start = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return _spent(self.clusters, start, min(now, start + _DAY), currency)

    def spent_by(self, run: str, now: datetime, currency: str) -> Spent:
        """What the clusters of one run cost until now, those that failed included."""
        own = tuple(one for one in self.clusters if one.run == run)
        return _spent(own, datetime.min.replace(tzinfo=UTC), now, currency)

    def reason_to_stop(self, budget: float, currency: str, now: datetime) -> str | None:
        """Why no cluster may be created today; None if one may, or there is no budget."""
        spent = self.spent_on(now, now, currency)
        if not budget or spent.amount < budget:
            return None
        return (
            f"daily_budget is used up: the clusters of {now:%Y-%m-%d} (UTC) cost {spent.text} of {budget:.2f} "
            f"{currency}; no cluster is created until 00:00 UTC; next: raise daily_budget in variables.json, then make "
            "import-variables, or wait"
        )

    def noted(self, now: datetime) -> Ledger:
        """With the note that people were notified of this day's budget."""
        return replace(self, announced=f"{now:%Y-%m-%d}")

    def was_announced(self, now: datetime) -> bool:
        """Whether people were notified of this day's budget."""
        return self.announced == f"{now:%Y-%m-%d}"

    def _with(self, name: str, **changes: Any) -> Ledger:
        return replace(
            self, clusters=tuple(replace(one, **changes) if one.name == name else one for one in self.clusters)
        )


def _gone(one: ClusterSpan, now: datetime) -> datetime:
    """When a cluster that is gone was deleted, at the latest: nobody watched it."""
    return min(now, _time(one.deletion_at) + DELETION) if one.deletion_at else now


def _spent(clusters: Collection[ClusterSpan], since: datetime, until: datetime, currency: str) -> Spent:
    seconds = host_hours = amount = 0.0
    counted = unpriced = 0
    for one in clusters:
        lasted = one.lasted(since, until)
        if not lasted:
            continue
        counted += 1
        seconds += lasted.total_seconds()
        host_hours += sum(one.hosts.values()) * (lasted / _HOUR)
        if one.price_per_hour is None or one.currency != currency:
            unpriced += 1
        else:
            amount += one.price_per_hour * (lasted / _HOUR)
    return Spent(counted, seconds, host_hours, amount, currency, unpriced)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
