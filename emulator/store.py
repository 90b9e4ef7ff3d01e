"""The emulator's state in one SQLite file; every change is a transaction."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from emulator.errors import not_found

M = TypeVar("M", bound=Message)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX IF NOT EXISTS records_by_owner ON records (kind, owner);
"""


@dataclass(frozen=True)
class Record:
    """A stored resource: an API message (`body`) and what the API does not show (`data`)."""

    kind: str
    id: str
    owner: str
    name: str
    body: bytes
    data: dict[str, Any]

    def message(self, type_: type[M]) -> M:
        return type_.FromString(self.body)


class Store:
    """Records by kind and id; listed in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One change; nested ones join the outermost. Others wait."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def put(
        self,
        kind: str,
        id_: str,
        message: Message | None = None,
        *,
        owner: str = "",
        name: str = "",
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Insert or replace; a replaced record keeps its place in the order."""
        body = message.SerializeToString() if message is not None else b""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO records (kind, id, owner, name, body, data) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET owner=excluded.owner, name=excluded.name, body=excluded.body, "
                "data=excluded.data",
                (kind, id_, owner, name, body, json.dumps(data or {})),
            )

    def save(self, record: Record, message: Message | None = None, **data: object) -> None:
        """Replace a record's message (the old one where none is given) and add to its data."""
        body = message.SerializeToString() if message is not None else record.body
        with self.transaction():
            self._connection.execute(
                "UPDATE records SET body=?, data=? WHERE kind=? AND id=?",
                (body, json.dumps({**record.data, **data}), record.kind, record.id),
            )

    def get(self, kind: str, id_: str) -> Record | None:
        rows = self._select("kind=? AND id=?", (kind, id_))
        return rows[0] if rows else None

    def require(self, kind: str, id_: str, owner: str | None = None) -> Record:
        """A record that exists (and is of that owner). Raises NOT_FOUND."""
        record = self.get(kind, id_)
        if record is None or owner not in (None, record.owner):
            raise not_found(kind.replace("-", " ").capitalize(), id_)
        return record

    def find(self, kind: str, owner: str | None = None, name: str | None = None) -> list[Record]:
        where, values = "kind=?", [kind]
        if owner is not None:
            where, values = where + " AND owner=?", [*values, owner]
        if name is not None:
            where, values = where + " AND name=?", [*values, name]
        return self._select(where, tuple(values))

    def delete(self, kind: str, id_: str) -> None:
        with self.transaction():
            self._connection.execute("DELETE FROM records WHERE kind=? AND id=?", (kind, id_))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _select(self, where: str, values: tuple[str, ...]) -> list[Record]:
        query = f"SELECT kind, id, owner, name, body, data FROM records WHERE {where} ORDER BY number"  # noqa: S608
        with self._lock:
            rows = self._connection.execute(query, values).fetchall()
        return [Record(kind, id_, owner, name, body, json.loads(data)) for kind, id_, owner, name, body, data in rows]
