"""The disk storage alone; `test_storage_contract.py` tests what it shares with object storage."""

import errno
import os
from pathlib import Path

import pytest

from fraud_detection import storage
from fraud_detection.errors import FraudDetectionError, SettingsError


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def test_names_lists_objects_by_prefix_without_unfinished_ones(tmp_path: Path) -> None:
    """Fails when a file half-written by a killed run is listed as a result."""
    output = storage.open_folder(str(tmp_path))
    for name in ("b/2", "b/1", "a"):
        output.write_atomic(name, b"")
    (tmp_path / "b" / ".3.tmp-left-by-a-killed-run").write_bytes(b"half")
    assert output.names("b/") == ["b/1", "b/2"]
    assert output.names() == ["a", "b/1", "b/2"]
    assert storage.open_folder(str(tmp_path / "absent")).names() == []


@pytest.mark.parametrize("method", ["write_atomic", "write_once"])
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_no_half_written_object_and_says_so(tmp_path: Path, method: str) -> None:
    """Fails when a full disk leaves a half-written object, or the message does not say that it is full."""
    with pytest.raises(FraudDetectionError, match="no space is left") as caught:
        getattr(storage.open_folder(str(tmp_path)), method)("a", b"1")
    assert caught.value.exit_code == 1
    assert everything(tmp_path) == []


def test_a_full_disk_keeps_the_object_that_was_there(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Fails when a full disk destroys the object that was to be replaced."""
    output = storage.open_folder(str(tmp_path))
    output.write_atomic("a", b"1")
    request.getfixturevalue("full_disk")
    with pytest.raises(FraudDetectionError):
        output.write_atomic("a", b"2")
    assert output.read("a") == b"1"


def test_an_output_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Fails when an output path that is a file ends in a stack trace."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(SettingsError, match="is a file"):
        storage.open_folder(str(tmp_path / "a"))
    with pytest.raises(FraudDetectionError):
        storage.open_folder(str(tmp_path / "a" / "b")).write_atomic("c", b"")


def test_a_file_url_means_a_path_and_other_urls_are_refused(tmp_path: Path) -> None:
    """Fails when a file:// URL writes to another folder, or hdfs:// silently to the local disk."""
    storage.open_folder(f"file://{tmp_path}/with%20space").write_atomic("a", b"1")
    assert (tmp_path / "with space" / "a").read_bytes() == b"1"
    with pytest.raises(SettingsError, match="hdfs://"):
        storage.open_folder("hdfs://bucket/output")
