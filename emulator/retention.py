"""Deletes old jobs and operations, so that the state of a long-running emulator stays small."""

import time

from yandex.cloud.dataproc.v1.job_pb2 import Job
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.cloud import Cloud
from emulator.jobs import Jobs

_INTERVAL = 3600.0  # seconds
_DAY = 86_400.0


class Retention:
    """Runs at each start, and then every hour."""

    def __init__(self, cloud: Cloud, jobs: Jobs) -> None:
        self._cloud = cloud
        self._jobs = jobs
        cloud.clock.register("retention", self._forget)

    def begin(self) -> None:
        self._cloud.clock.cancel("retention")
        self._cloud.clock.schedule(0.0, "retention", "retention")

    def _forget(self, target: str) -> None:
        oldest = time.time() - self._cloud.settings.retention.days * _DAY
        store = self._cloud.store
        for record in store.find("job"):
            finished = record.message(Job).finished_at.seconds
            if finished and finished < oldest:
                self._jobs.forget(record.id)
        for record in store.find("operation"):
            operation = record.message(Operation)
            if operation.done and operation.modified_at.seconds < oldest:
                store.delete("operation", record.id)
                for key in store.find("idempotency", owner=record.id):
                    store.delete("idempotency", key.id)
        for record in store.find("cluster-request"):
            if store.get("cluster", record.id) is None and not store.find("operation", owner=record.id):
                store.delete("cluster-request", record.id)
        self._cloud.clock.schedule(_INTERVAL, "retention", target)
