"""The journal keeps each transaction that was answered, through any end of the process."""

import errno
import os
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.serving.journal import Journal
from fraud_detection.serving.state import Arrival

WRITE = os.write
keys = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=5))
arrivals = st.builds(
    Arrival,
    keys,
    st.integers(0, 2**52),
    st.floats(0, 1e12),
    st.one_of(st.none(), st.text(max_size=5)),
    st.one_of(st.none(), st.text(max_size=5)),
)


def written(path: Path, entries: list[Arrival]) -> bytes:
    """The content of a journal of these entries."""
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for entry in entries:
        journal.append(entry)
    journal.close()
    return path.read_bytes()


def read(path: Path) -> list[Arrival]:
    journal = Journal(path)
    journal.close()
    return journal.entries


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(arrivals, min_size=1, max_size=4), st.data())
def test_a_torn_end_costs_only_what_was_torn(tmp_path: Path, entries: list[Arrival], data: st.DataObject) -> None:
    """Fails when a server cannot start after a crash, or forgets a transaction that it had written."""
    path = tmp_path / "journal"
    content = written(path, entries)
    left = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:left] + data.draw(st.sampled_from([b"", b"\0\0\0", b"[1,2"])))
    whole = content[:left].count(b"\n")
    journal = Journal(path)
    assert journal.entries == entries[:whole]
    journal.append(entries[0])
    journal.close()
    assert read(path) == [*entries[:whole], entries[0]]


def test_damage_before_good_lines_is_an_error(tmp_path: Path) -> None:
    """Fails when a damaged disk silently costs transactions, and features are wrong."""
    entries = [Arrival(number, number, 1.0, "card") for number in range(3)]
    content = written(tmp_path / "journal", entries)
    (tmp_path / "journal").write_bytes(content.replace(b"[1,1", b"[1,7"))
    with pytest.raises(FraudDetectionError, match="damaged before line 3"):
        Journal(tmp_path / "journal")


def test_only_one_server_holds_a_journal(tmp_path: Path) -> None:
    """Fails when two servers write into one journal, and each forgets what the other has seen."""
    first = Journal(tmp_path / "journal")
    with pytest.raises(ServiceUnavailableError, match="another server holds"):
        Journal(tmp_path / "journal")
    first.close()
    Journal(tmp_path / "journal").close()


def test_what_arrives_while_entries_are_replaced_is_kept(tmp_path: Path) -> None:
    """Fails when a transaction that comes while the store is read is lost at the next start."""
    entries = [Arrival(number, number, 1.0, "card") for number in range(6)]
    written(tmp_path / "journal", entries[:3])
    journal = Journal(tmp_path / "journal")
    journal.append(entries[3])
    journal.replace(entries[1:3], 3)
    journal.append(entries[4])
    journal.sync()
    journal.close()
    assert read(tmp_path / "journal") == entries[1:5]


def test_an_entry_is_in_the_journal_as_soon_as_its_line_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a transaction that is answered just before the journal is replaced is lost at the next start."""
    journal = Journal(tmp_path / "journal")
    entries = [Arrival(number, number, 1.0, "card") for number in range(3)]
    journal.append(entries[0])
    replacing = Thread(target=journal.replace, args=([], 1))

    def write_and_wait(file: int, content: bytes) -> int:
        written = WRITE(file, content)
        if file == journal_file and not replacing.ident:
            replacing.start()
            replacing.join(0.05)  # it waits for the lock, and goes on as soon as that is free
        return written

    journal_file = max(int(path.name) for path in Path("/dev/fd").iterdir() if path.resolve() == tmp_path / "journal")
    monkeypatch.setattr(os, "write", write_and_wait)
    journal.append(entries[1])
    replacing.join()
    journal.append(entries[2])
    journal.close()
    assert journal.entries == read(tmp_path / "journal") == entries[1:]


def test_a_closed_journal_is_left_to_the_next_server(tmp_path: Path) -> None:
    """Fails when a server that ends while it reads the store replaces the journal of the one that follows."""
    first, entry = Journal(tmp_path / "journal"), Arrival(1, 1, 1.0, "card")
    first.close()
    second = Journal(tmp_path / "journal")
    second.append(entry)
    with pytest.raises(OSError, match="closed"):
        first.replace([], 0)
    second.close()
    assert read(tmp_path / "journal") == [entry]


def test_what_did_not_reach_the_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when one error of the disk leaves answered transactions in memory alone."""
    journal = Journal(tmp_path / "journal")
    journal.append(Arrival(1, 1, 1.0, "card"))
    synced = []

    def sync(file: int) -> None:
        synced.append(file)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", sync)
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    journal.sync()
    journal.sync()
    assert len(synced) == 2
    journal.close()


class FullDisk:
    """`os.write` on a disk that takes some bytes more, and then none."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, file: int, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(self.room, len(content))
        self.room -= taken
        return WRITE(file, content[:taken])


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Fails when a disk that was full for a moment leaves a journal with which no server starts."""
    journal = Journal(tmp_path / "journal")
    entries = [Arrival(number, number, 1.0, "card") for number in range(3)]
    journal.append(entries[0])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", FullDisk(room))
        with pytest.raises(OSError, match="No space left"):
            journal.append(entries[1])
    journal.append(entries[2])
    journal.close()
    assert read(tmp_path / "journal") == [entries[0], entries[2]]


def test_a_full_disk_leaves_the_journal_that_was_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a full disk costs the journal, or each attempt to replace it keeps a file open."""
    journal = Journal(tmp_path / "journal")
    entries = [Arrival(number, number, 1.0, "card") for number in range(3)]
    journal.append(entries[0])
    opened = len(list(Path("/dev/fd").iterdir()))
    for room in (0, 30):
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", FullDisk(room))
            with pytest.raises(OSError, match="No space left"):
                journal.replace(entries[1:], 1)
    assert len(list(Path("/dev/fd").iterdir())) == opened
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "journal.lock"]
    journal.append(entries[1])
    journal.close()
    assert read(tmp_path / "journal") == entries[:2]
