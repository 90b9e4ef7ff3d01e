"""The contract of every storage, on disk and on a real S3 server: results appear complete, and once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.object_storage import Server, serving, use_keys

from fraud_detection import storage
from fraud_detection.errors import DataError
from fraud_detection.storage import Storage


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(params=["disk", "s3a", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty location that no other test uses."""
    if request.param == "disk":
        return str(tmp_path / "root")
    use_keys(monkeypatch, request.getfixturevalue("server").endpoint)
    return f"{request.param}://bucket/{tmp_path.name}/root"


@pytest.fixture
def output(root: str) -> Storage:
    return storage.open_folder(root)


def test_an_object_is_read_back_as_it_was_written(output: Storage, root: str) -> None:
    """Fails when a report is not where the run said that it is."""
    place = output.write_atomic("reports/a.html", b"1")
    assert output.read("reports/a.html") == b"1"
    assert place == output.url("reports/a.html") == f"{root}/reports/a.html".replace("s3://", "s3a://")
    assert storage.open_input(place).read() == b"1"


def test_an_absent_object_reads_as_none(output: Storage) -> None:
    """Fails when the very first run fails because there is no earlier decision."""
    assert output.read("decisions/a.json") is None


def test_a_second_write_replaces_the_first(output: Storage) -> None:
    """Fails when a report written again after registration still shows the old content."""
    output.write_atomic("a", b"1")
    output.write_atomic("a", b"2")
    assert output.read("a") == b"2"
    assert output.names() == ["a"]


def test_readers_see_the_old_object_or_the_new_and_never_a_part(output: Storage) -> None:
    """Fails when a person who opens a report while it is replaced sees half a page."""
    contents = [letter * 300_000 for letter in (b"a", b"b")]
    output.write_atomic("page", contents[0])
    done = threading.Event()

    def keep_writing() -> None:
        for turn in range(12):
            output.write_atomic("page", contents[turn % 2])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(keep_writing)
        while not done.is_set():
            assert output.read("page") in contents
        writing.result()


def test_write_once_never_overwrites_a_decision(output: Storage) -> None:
    """Fails when a repeated run replaces a decision that was already acted on."""
    assert output.write_once("a", b"1") is True
    assert output.write_once("a", b"2") is False
    assert output.read("a") == b"1"


def test_one_of_many_concurrent_writers_wins_a_decision(output: Storage) -> None:
    """Fails when two runs triggered at once both record a decision."""
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: output.write_once("a", str(n).encode()), range(40)))
    assert sum(won) == 1
    assert output.read("a") == str(won.index(True)).encode()


def test_names_lists_all_pages_below_a_prefix_and_nothing_beside_it(output: Storage) -> None:
    """Fails when the history ends with the first page of a listing and hides every later decision."""
    names = [f"decisions/{number:02}" for number in range(12)]  # the server's pages have 5
    for name in [*names, "decisions-of-others", "a"]:
        output.write_atomic(name, b"")
    assert output.names("decisions/") == names
    assert output.names("decisions/1") == names[10:]
    assert output.names() == sorted([*names, "decisions-of-others", "a"])
    assert output.names("absent/") == []


def test_a_discarded_object_is_gone(output: Storage) -> None:
    """Fails when old files of the store fill the disk, or discarding one twice ends a run."""
    for name in ("a", "ab"):
        output.write_atomic(name, b"1")
    for _ in range(2):
        output.discard("a")
    assert output.names() == ["ab"]


def test_an_empty_folder_has_no_names(output: Storage) -> None:
    """Fails when `fraud-detection decisions` fails before the first run."""
    assert output.names() == []


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "", "a/../../b"])
def test_no_name_leaves_the_folder(output: Storage, name: str) -> None:
    """Fails when a model name in a settings file can write outside the output folder."""
    with pytest.raises(ValueError, match="not a name inside"):
        output.write_atomic(name, b"")


def test_input_files_are_found_at_any_depth_without_hidden_ones(output: Storage, root: str) -> None:
    """Fails when a file in a nested folder is not read, or a marker or temporary file is."""
    for name in ("in/b.csv", "in/2024/05/a.csv", "in/_SUCCESS", "in/.crc", "in/_temporary/c.csv", "in/2024/.part.csv"):
        output.write_atomic(name, b"x")
    output.write_atomic("in2/of_others.csv", b"x")
    found = [output.url("in/2024/05/a.csv"), output.url("in/b.csv")]
    assert storage.input_files(f"{root}/in") == found
    assert storage.input_files(f"{root}/in/") == found
    assert storage.input_files(found[1]) == [found[1]]


def test_an_input_that_does_not_exist_is_not_read_as_empty(root: str) -> None:
    """Fails when a misspelt input path is taken for a month without transactions."""
    with pytest.raises(DataError, match="does not exist"):
        storage.input_files(f"{root}/absent")


def test_an_input_can_be_read_at_any_offset(output: Storage) -> None:
    """Fails when Parquet, which is read from its end, or CSV in pieces is read wrongly."""
    content = bytes(range(256)) * 10_000
    with storage.open_input(output.write_atomic("file", content)) as file:
        assert file.size() == len(content)
        file.seek(len(content) - 5)
        assert file.read() == content[-5:]
        file.seek(1_500_000)
        assert file.read(1_040_000) == content[1_500_000:2_540_000]
        file.seek(3)
        assert file.read(4) == content[3:7]
        assert file.read(0) == b""
    assert storage.open_input(output.write_atomic("empty", b"")).read() == b""


def test_a_deleted_object_is_gone_and_can_be_written_again(output: Storage) -> None:
    """Fails when a report that was removed is still shown, or when its neighbour is lost with it."""
    output.write_atomic("reports/a/report.html", b"1")
    output.write_atomic("reports/b/report.html", b"2")
    output.discard("reports/a/report.html")
    assert output.read("reports/a/report.html") is None
    assert output.names() == ["reports/b/report.html"]
    output.discard("reports/b/report.html")
    assert output.names() == []
    assert output.write_once("reports/a/report.html", b"3") is True
    assert output.read("reports/a/report.html") == b"3"


def test_deleting_an_absent_object_does_nothing(output: Storage) -> None:
    """Fails when a clean-up that was killed cannot be repeated."""
    output.discard("reports/a.html")
    output.write_atomic("reports/b.html", b"1")
    output.discard("reports/a.html")
    assert output.names() == ["reports/b.html"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b"])
def test_nothing_outside_is_deleted(output: Storage, name: str) -> None:
    """Fails when a name in a listing can lead a clean-up out of the output folder."""
    with pytest.raises(ValueError, match="is not a name inside"):
        output.discard(name)


def test_objects_have_their_size_and_the_time_they_were_written(output: Storage) -> None:
    """Fails when a clean-up takes a new file for an old one."""
    before = datetime.now(UTC) - timedelta(seconds=5)
    for name, content in (("a/2", b"22"), ("a/1", b"1"), ("b", b"333")):
        output.write_atomic(name, content)
    assert [(one.name, one.size) for one in output.objects("a/")] == [("a/1", 1), ("a/2", 2)]
    assert all(before <= one.written_at <= datetime.now(UTC) + timedelta(seconds=5) for one in output.objects())
    assert [one.name for one in output.objects()] == output.names()


def test_a_writer_survives_that_its_empty_folder_is_removed(output: Storage) -> None:
    """Fails when a run cannot write its outcome because a clean-up has just emptied the folder."""
    stop = threading.Event()

    def keep_deleting() -> None:
        while not stop.is_set():
            output.discard("outcomes/old.json")
            stop.wait(0.001)

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(keep_deleting)
        try:
            for _ in range(10):
                output.write_atomic("outcomes/old.json", b"1")
                output.write_atomic("outcomes/new.json", b"2")
                output.discard("outcomes/new.json")
        finally:
            stop.set()
        deleting.result()
