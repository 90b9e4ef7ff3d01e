"""One writer at a time: an expiring lease on the steps that bring a decision or a user's command into force.

    leases/<model name>/00000012.json       the twelfth lease: who holds it, until when, and when it was released

MLflow has no compare-and-set, and Airflow's `max_active_runs` does not know of a run that is started by hand. A
generation is an object that is written once (exclusive create on disk, If-None-Match on S3), so only one of two
processes that want the same generation gets it. The newest generation counts. Once it is released or has expired, the
next holder writes the generation after it. Nothing is deleted, since the job's account may write and not delete: one
small object stays for each decision, like those of the decision log.

A killed process cannot release its lease. If it ran on this machine, the next one sees that it has ended, and takes
over after `SETTLING`; the lease of a holder elsewhere has to expire.

A lease cannot stop a process that hangs inside a single request to MLflow for longer than the lease and sends it
afterwards. Such a process notices at its next step or at its end: see `restoration.exclusive`.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.outputs import lease_file, leases_folder
from fraud_detection.registry.processes import ProcessIdentity, this_process
from fraud_detection.storage import Storage

DURATION = timedelta(minutes=2)
"""From the last renewal. The longest step takes seconds, and a request to MLflow gives up after about a minute."""
CLOCK_SKEW = timedelta(seconds=30)
"""How much the clocks of two machines may differ: a lease is taken over only this long after it has expired."""
PATIENCE = 2 * (DURATION + CLOCK_SKEW)
"""How long to wait for another holder: longer than a killed one can block, whatever it was doing."""
SETTLING = timedelta(seconds=10)
"""How long to wait after a holder was found dead: a request that it had sent to MLflow may still be carried out."""
_RENEW_AFTER = DURATION / 4
_POLL_SECONDS = 1.0
_LOGGER = logging.getLogger(__name__)


class LeaseLostError(ServiceUnavailableError):
    """The lease ended before the work of its holder."""


class LeaseRecord(BaseModel):
    """One generation, as stored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    generation: int
    holder: str
    process: ProcessIdentity | None = None
    """Of the holder; None where it cannot be told, and in leases of earlier releases."""
    acquired_at: datetime
    expires_at: datetime
    released_at: datetime | None = None

    def is_free(self, now: datetime) -> bool:
        """Whether the next generation may be taken."""
        return self.released_at is not None or now > self.expires_at + CLOCK_SKEW

    def is_abandoned(self) -> bool:
        """Whether its holder ran on this machine and has ended without releasing it."""
        return self.released_at is None and self.process is not None and self.process.has_ended()


class Leases:
    """The leases of one model name in an output folder.

    Args:
        storage: the output folder.
        model_name: each has its own leases.
        clock: the time, aware.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        storage: Storage,
        model_name: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = storage
        self._model_name = model_name
        self._sleep = sleep
        self.clock = clock

    @contextmanager
    def hold(self, purpose: str) -> Iterator["Lease"]:
        """Hold the lease during the block; `purpose` tells other processes what they wait for.

        Raises:
            ServiceUnavailableError: others have held it for longer than `PATIENCE`.
        """
        lease = self._acquire(f"{purpose} (process {os.getpid()} on {socket.gethostname()})")
        try:
            yield lease
        finally:
            lease.release()

    def write(self, record: LeaseRecord) -> None:
        """Replace a generation; only its holder may."""
        self._storage.write_atomic(self._name(record.generation), _content(record))

    def exists(self, generation: int) -> bool:
        """Whether this generation has been taken."""
        return self._storage.read(self._name(generation)) is not None

    def lost(self, record: LeaseRecord) -> LeaseLostError:
        """The error of a holder whose lease has ended before its work."""
        return LeaseLostError(
            f"the lease on the last steps of {self._model_name} ended before they were done: it was held from"
            f" {record.acquired_at:%Y-%m-%d %H:%M:%S} to {record.expires_at:%H:%M:%S} UTC"
            f" ({self._storage.url(self._name(record.generation))}), and another process may have taken over; run the"
            " same command again: it completes what is left"
        )

    def _acquire(self, holder: str) -> "Lease":
        deadline = self.clock() + PATIENCE
        waiting_for = None
        free_from: dict[int, datetime] = {}
        """By generation, of those whose holder was found dead."""
        while True:
            newest, now = self._newest(), self.clock()
            if newest is None or newest.is_free(now) or now >= free_from.get(newest.generation, now + DURATION):
                generation = 1 if newest is None else newest.generation + 1
                record = LeaseRecord(
                    generation=generation,
                    holder=holder,
                    process=this_process(),
                    acquired_at=now,
                    expires_at=now + DURATION,
                )
                if self._storage.write_once(self._name(generation), _content(record)):
                    return Lease(self, record)
                continue
            if now >= deadline:
                raise self._busy(newest)
            if newest.generation not in free_from and newest.is_abandoned():
                free_from[newest.generation] = now + SETTLING
                waiting_for = newest.generation
                _LOGGER.warning("%s has ended without its last steps; they are taken over", newest.holder)
            elif waiting_for != newest.generation:
                waiting_for = newest.generation
                self._log_wait(newest)
            self._sleep(_POLL_SECONDS)

    def _log_wait(self, newest: LeaseRecord) -> None:
        _LOGGER.warning(
            "waiting: %s is in the last steps of %s since %s UTC; should it be dead, its lease ends at %s UTC",
            newest.holder,
            self._model_name,
            f"{newest.acquired_at:%Y-%m-%d %H:%M:%S}",
            f"{newest.expires_at + CLOCK_SKEW:%H:%M:%S}",
        )

    def _busy(self, newest: LeaseRecord) -> ServiceUnavailableError:
        url = self._storage.url(self._name(newest.generation))
        return ServiceUnavailableError(
            f"another process is in the last steps of {self._model_name}: {newest.holder}, since"
            f" {newest.acquired_at:%Y-%m-%d %H:%M:%S} UTC ({url}); run the same command again when it has ended"
        )

    def _newest(self) -> LeaseRecord | None:
        names = self._storage.names(leases_folder(self._model_name))
        content = self._storage.read(names[-1]) if names else None
        if content is None:
            return None
        try:
            return LeaseRecord.model_validate_json(content)
        except ValidationError as error:
            raise FraudDetectionError(
                f"{self._storage.url(names[-1])} is not a readable lease: {error.errors()[0]['msg']}; move it away"
            ) from error

    def _name(self, generation: int) -> str:
        return lease_file(self._model_name, generation)


class Lease:
    """One generation that this process holds."""

    def __init__(self, leases: Leases, record: LeaseRecord) -> None:
        self._leases = leases
        self._record = record

    def now(self) -> datetime:
        """The time on the clock of the lease."""
        return self._leases.clock()

    def is_held(self) -> bool:
        """Whether the lease has neither expired nor been taken over."""
        return self.now() < self._record.expires_at and not self._leases.exists(self._record.generation + 1)

    def require_held(self) -> None:
        """Call before every step that changes something; renews the lease when a part of it has passed.

        Raises:
            LeaseLostError: the lease has expired, or another process has taken over.
        """
        if not self.is_held():
            raise self._leases.lost(self._record)
        now = self.now()
        if now > self._record.expires_at - DURATION + _RENEW_AFTER:
            self._record = self._record.model_copy(update={"expires_at": now + DURATION})
            self._leases.write(self._record)

    def release(self) -> None:
        """Let the next process start at once."""
        with suppress(FraudDetectionError):  # the work is done, or has failed already; the lease expires by itself
            self._leases.write(self._record.model_copy(update={"released_at": self.now()}))


def _content(record: LeaseRecord) -> bytes:
    return record.model_dump_json(indent=2).encode()
