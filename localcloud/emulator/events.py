"""The event log: one JSON object a line, in the order in which things happened, never a secret."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO


class EventLog:
    """Appends events to `events.jsonl`; each line is written whole.

    Fields come from the emulator's own names, ids, states and codes. Requests are not logged: their texts are the
    caller's, and may hold what nobody should read.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file: IO[str] = path.open("a", encoding="utf-8")
        path.chmod(0o600)

    def write(self, event: str, **fields: object) -> None:
        with self._lock:
            if self._file.closed:
                return  # a call that outlives the server's grace period has nobody to tell
            stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            self._file.write(json.dumps({"time": stamp, "event": event, **fields}, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def read(path: Path) -> list[dict[str, object]]:
    """All events of a log, oldest first; a line still being written is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
