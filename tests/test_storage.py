"""Results appear whole or not at all."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraud_detection import storage
from fraud_detection.errors import DataError, FraudDetectionError, SettingsError


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def test_an_object_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path / "new" / "folder"))
    place = output.write("decisions/a.json", b"1")
    assert output.read("decisions/a.json") == Path(place).read_bytes() == b"1"
    assert output.place("decisions/a.json") == place


def test_an_absent_object_reads_as_none(tmp_path: Path) -> None:
    assert storage.open_folder(str(tmp_path)).read("decisions/a.json") is None


def test_a_second_write_replaces_the_first(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    output.write("a", b"1")
    output.write("a", b"2")
    assert output.read("a") == b"2"
    assert everything(tmp_path) == ["a"]


def test_write_once_never_overwrites_a_decision(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    assert output.write_once("a", b"1") is True
    assert output.write_once("a", b"2") is False
    assert output.read("a") == b"1"
    assert everything(tmp_path) == ["a"]


def test_one_of_many_concurrent_writers_wins_a_decision(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: output.write_once("a", str(n).encode()), range(40)))
    assert sum(won) == 1
    assert output.read("a") == str(won.index(True)).encode()


def test_names_lists_objects_by_prefix_without_unfinished_ones(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    for name in ("b/2", "b/1", "a"):
        output.write(name, b"")
    (tmp_path / "b" / ".3.tmp-left-by-a-killed-run").write_bytes(b"half")
    assert output.names("b/") == ["b/1", "b/2"]
    assert output.names() == ["a", "b/1", "b/2"]
    assert storage.open_folder(str(tmp_path / "absent")).names() == []


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "", "a/../../b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside"):
        storage.open_folder(str(tmp_path)).write(name, b"")


@pytest.mark.parametrize("method", ["write", "write_once"])
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_no_half_written_object_and_says_so(tmp_path: Path, method: str) -> None:
    with pytest.raises(FraudDetectionError, match="no space is left") as caught:
        getattr(storage.open_folder(str(tmp_path)), method)("a", b"1")
    assert caught.value.exit_code == 1
    assert everything(tmp_path) == []


def test_a_full_disk_keeps_the_object_that_was_there(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = storage.open_folder(str(tmp_path))
    output.write("a", b"1")
    request.getfixturevalue("full_disk")
    with pytest.raises(FraudDetectionError):
        output.write("a", b"2")
    assert output.read("a") == b"1"


def test_a_folder_is_published_whole_and_replaces_the_former(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    for content, name in ((b"1", "old"), (b"2", "new")):
        with output.publish_folder("reports/run") as folder:
            (folder / name).write_bytes(content)
            assert (tmp_path / "reports" / "run" / name).exists() is False
    assert everything(tmp_path) == ["reports/run/new"]


def test_a_folder_that_fails_halfway_is_not_published(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    with pytest.raises(FraudDetectionError, match="no space is left"), output.publish_folder("run") as folder:
        (folder / "a").write_bytes(b"1")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_output_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(SettingsError, match="is a file"):
        storage.open_folder(str(tmp_path / "a"))
    with pytest.raises(FraudDetectionError):
        storage.open_folder(str(tmp_path / "a" / "b")).write("c", b"")


def test_a_file_url_means_a_path_and_other_urls_are_refused(tmp_path: Path) -> None:
    storage.open_folder(f"file://{tmp_path}/with%20space").write("a", b"1")
    assert (tmp_path / "with space" / "a").read_bytes() == b"1"
    with pytest.raises(SettingsError, match="s3a://bucket/output"):
        storage.open_folder("s3a://bucket/output")


def test_input_files_are_found_at_any_depth_without_hidden_ones(tmp_path: Path) -> None:
    output = storage.open_folder(str(tmp_path))
    for name in ("b.csv", "2024/05/a.csv", "_SUCCESS", ".crc", "_temporary/c.csv", "2024/.part.csv"):
        output.write(name, b"x")
    assert storage.input_files(str(tmp_path)) == [str(tmp_path / "2024/05/a.csv"), str(tmp_path / "b.csv")]
    assert storage.input_files(str(tmp_path / "b.csv")) == [str(tmp_path / "b.csv")]
    assert storage.open_input(str(tmp_path / "b.csv")).read() == b"x"


def test_an_input_that_does_not_exist_is_not_read_as_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        storage.input_files(str(tmp_path / "absent"))
