"""The event log: one JSON object per line, in order of time, without secrets."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from emulator.client import OLDER_EVENTS as OLDER


class EventLog:
    """Appends events to `events.jsonl`, one line at a time. A full log becomes `events.1.jsonl`.

    Fields come from the emulator's own names, ids, states and codes.
    Requests are not logged: their texts may hold secrets.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._most_bytes = most_bytes
        self._file = self._open()

    def write(self, event: str, **fields: object) -> None:
        with self._lock:
            if self._file.closed:
                return  # a call that outlives the server's grace period is not logged
            stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            self._file.write(json.dumps({"time": stamp, "event": event, **fields}, ensure_ascii=False) + "\n")
            self._file.flush()
            if self._file.tell() > self._most_bytes:
                self._file.close()
                self._path.replace(self._path.with_name(OLDER))
                self._file = self._open()

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _open(self) -> IO[str]:
        file = self._path.open("a", encoding="utf-8")
        self._path.chmod(0o600)
        return file
