"""The cloud that the services share: its ids, what it remembers, and when things happen."""

from dataclasses import dataclass
from pathlib import Path

from emulator.access import Access
from emulator.clock import Clock
from emulator.errors import Violation
from emulator.events import EventLog
from emulator.faults import Faults
from emulator.operations import Operations
from emulator.settings import Settings
from emulator.store import Store


@dataclass(frozen=True)
class Cloud:
    """One emulated cloud, in one state folder."""

    state: Path
    settings: Settings
    store: Store
    events: EventLog
    faults: Faults
    clock: Clock
    operations: Operations
    access: Access

    @property
    def buckets(self) -> Path:
        """The folder whose folders are the buckets."""
        return self.settings.storage.root or self.state / "buckets"

    def has_bucket(self, name: str) -> bool:
        """Whether a bucket exists; always true with a real S3 server, which checks it itself."""
        return self.settings.storage.s3_endpoint is not None or (self.buckets / name).is_dir()

    def check_known(self, kind: str, id_: str, path: str, owner: str | None = None) -> list[Violation]:
        """A violation if a request names something that does not exist (in that folder)."""
        if not self.settings.rules.known_references:
            return []
        record = self.store.get(kind, id_)
        if record is not None and (owner is None or record.owner == owner):
            return []
        return [Violation(path, f"{kind} {id_!r} does not exist")]
