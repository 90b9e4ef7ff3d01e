"""A batch has its whole effect or none, also where the process is killed, on disk and on a real S3 server."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from fakes.object_storage import Server, serving, use_keys
from fakes.registry import Killed
from fakes.scoring import NAME, START, Row, score_input, stored_scores

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.outputs import score_manifest_file
from fraud_detection.scores import Batch, ScoreManifest, ScoreStore
from fraud_detection.scores.batches import alert_list
from fraud_detection.storage import Storage, StoredObject, open_folder

EARLIER = {f"t{number}": Row(number) for number in range(20, 28)}
LATER = EARLIER | {f"t{number}": Row(number) for number in (3, *range(28, 52))}
T1, T2, T3 = (START + timedelta(hours=hours) for hours in (28, 52, 53))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(params=["disk", "s3a"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty location that no other test uses."""
    if request.param == "disk":
        return str(tmp_path / "root")
    use_keys(monkeypatch, request.getfixturevalue("server").endpoint)
    return f"s3a://bucket/{tmp_path.name}"


class Mortal(Storage):
    """A storage whose process is killed before, or right after, one of its writes."""

    def __init__(self, storage: Storage, survived: int, *, written: bool) -> None:
        self._storage, self._left, self._written = storage, survived, written

    def _die(self) -> None:
        raise Killed

    def _count(self) -> bool:
        self._left -= 1
        return self._left < 0

    def write_atomic(self, name: str, content: bytes) -> str:
        dies = self._count()
        if dies and not self._written:
            self._die()
        url = self._storage.write_atomic(name, content)
        if dies:
            self._die()
        return url

    def write_once(self, name: str, content: bytes) -> bool:
        dies = self._count()
        if dies and not self._written:
            self._die()
        done = self._storage.write_once(name, content)
        if dies:
            self._die()
        return done

    def url(self, name: str) -> str:
        return self._storage.url(name)

    def read(self, name: str) -> bytes | None:
        return self._storage.read(name)

    def names(self, prefix: str = "") -> list[str]:
        return self._storage.names(prefix)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return self._storage.objects(prefix)

    def discard(self, name: str) -> None:
        raise AssertionError("no score is discarded")


def _alerts(storage: Storage) -> dict[str, bytes | None]:
    return {name: storage.read(name) for name in storage.names(f"scores/{NAME}/alerts/")}


def _without_batches(scores: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """When a killed batch is made again depends on the test; what it scores does not."""
    changing = ("scored_at", "batch")
    return {
        key: [{name: value for name, value in row.items() if name not in changing} for row in rows]
        for key, rows in scores.items()
    }


def _assert_complete(storage: Storage) -> None:
    """What the next two batches leave is what batches leave that nothing has killed."""
    score_input(storage, LATER, T2)
    score_input(storage, LATER, T3)
    found = stored_scores(storage)
    assert found.keys() == LATER.keys()
    assert all(len(rows) == 1 for rows in found.values())
    assert [key for key, rows in found.items() if rows[0]["late"]] == ["t3"]
    listed = {
        line.split(b",")[0].decode().strip('"')
        for text in _alerts(storage).values()
        for line in (text or b"").splitlines()
    }
    assert listed - {"transaction_id"} == {key for key, rows in found.items() if rows[0]["alert"]}


WRITES = 7
"""Of the second batch: files of three days, the manifest, lists of three days."""


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_batch_that_is_killed_at_any_write_is_made_up_for(root: str, written: bool) -> None:
    """Fails when a killed batch leaves transactions without a score, with two, or alerts that no list shows."""
    for survived in range(WRITES):
        storage = open_folder(f"{root}/{survived}")
        score_input(storage, EARLIER, T1)
        before = stored_scores(storage)
        with pytest.raises(Killed):
            score_input(Mortal(storage, survived, written=written), LATER, T2)
        seen = stored_scores(storage)
        assert seen == before or seen.keys() == LATER.keys(), "a reader sees a batch whole or not at all"
        assert all(seen[key] == rows for key, rows in before.items())
        _assert_complete(storage)


PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from test_batches import LATER, T2, Mortal
from fakes.scoring import score_input
from fraud_detection.storage import open_folder

class Real(Mortal):
    def _die(self):
        os.kill(os.getpid(), signal.SIGKILL)

score_input(Real(open_folder(sys.argv[1]), int(sys.argv[2]), written=True), LATER, T2)
"""


@pytest.mark.slow
def test_a_process_that_is_really_killed_is_made_up_for(root: str) -> None:
    """Fails when a real SIGKILL, after which no handler runs, leaves a batch that the next one cannot complete."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for survived in range(WRITES):
        folder = f"{root}/{survived}"
        storage = open_folder(folder)
        score_input(storage, EARLIER, T1)
        arguments = [sys.executable, "-c", PROGRAM, folder, str(survived), str(Path(__file__).parent)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        _assert_complete(storage)


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_forgetting_old_days_can_be_killed_at_any_write(root: str, written: bool) -> None:
    """Fails when a removal that is killed leaves a manifest of lost files, or an alert without its list."""
    day = START + timedelta(days=1)
    for survived in range(2):
        storage = open_folder(f"{root}/{survived}")
        score_input(storage, EARLIER, T1)
        before = stored_scores(storage)
        with pytest.raises(Killed):
            ScoreStore(Mortal(storage, survived, written=written), NAME).forget_before(day)
        assert stored_scores(storage).keys() <= before.keys()
        store = ScoreStore(storage, NAME)
        store.forget_before(day)
        assert stored_scores(storage).keys() == {f"t{hour}" for hour in range(24, 28)}
        old = [one.name for one in store.older(day)]
        assert old
        assert all("2026-03-01" in name for name in old)
        for name in old:
            storage.discard(name)
        assert store.older(day) == ()
        score_input(storage, LATER, T2)
        assert stored_scores(storage).keys() == {f"t{hour}" for hour in range(24, 52)}


def test_a_batch_meanwhile_keeps_its_scores(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a removal beside a batch publishes a manifest without its scores."""
    storage = open_folder(root)
    score_input(storage, EARLIER, T1)
    store = ScoreStore(storage, NAME)
    monkeypatch.setattr(store, "write_alerts", lambda _: score_input(storage, LATER, T2))
    with pytest.raises(ServiceUnavailableError, match="no scores were removed"):
        store.forget_before(START + timedelta(days=1))
    assert stored_scores(storage).keys() == LATER.keys()


def test_of_two_processes_one_publishes(root: str) -> None:
    """Fails when a batch by hand and one of the schedule score the same transactions twice."""
    storage = open_folder(root)
    score_input(storage, EARLIER, T1)
    store = ScoreStore(storage, NAME)
    previous = store.newest()
    score_input(storage, LATER, T2)
    scored = stored_scores(storage)
    with pytest.raises(ServiceUnavailableError, match="another process has published batch 2"):
        store.publish(previous, _empty_batch(store, previous))
    assert stored_scores(storage) == scored


def _empty_batch(store: ScoreStore, previous: ScoreManifest | None) -> Batch:
    assert previous is not None
    increment = store.increment(previous, {day.day: day.content for day in previous.days}, START.date(), _no_read)
    first = previous.days[0]
    rows = store.rows(previous, first.day)
    assert rows is not None
    plain = rows.drop_columns(["model_version", "scored_at", "batch"]).slice(0, 0)
    return Batch(plain, increment, {}, T2, previous.since, T2, 1, None, 0.5, None)


def _no_read(_days: object) -> pa.Table:
    raise AssertionError("nothing has changed")


def test_lists_show_the_highest_probability_first(tmp_path: Path) -> None:
    """Fails when a reviewer who has time for ten alerts looks at the wrong ten."""
    storage = open_folder(str(tmp_path))
    manifest = score_input(storage, LATER, T2)
    assert manifest is not None
    [header, *lines] = _read_list(storage, "2026-03-02")
    assert header == ("transaction_id,transaction_time,amount,probability,reasons,late,model_version,scored_at,batch")
    probabilities = [float(line.split(",")[3]) for line in lines]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(lines) == next(day.alerts for day in manifest.days if day.day.day == 2) > 2


def _read_list(storage: Storage, day: str) -> list[str]:
    content = storage.read(f"scores/{NAME}/alerts/{day}.csv")
    assert content is not None
    return content.decode().replace('"', "").splitlines()


def test_a_version_without_a_threshold_has_no_list(tmp_path: Path) -> None:
    """Fails when an empty list says that nothing is suspicious, although nothing was judged."""
    storage = open_folder(str(tmp_path))
    score_input(storage, EARLIER, T1, threshold=None)
    assert _alerts(storage) == {}
    assert all(rows[0]["alert"] is None for rows in stored_scores(storage).values())


def test_a_list_runs_nothing_in_a_spreadsheet() -> None:
    """Fails when an id of the data is a formula that a reviewer's spreadsheet runs."""
    rows = pa.table(
        {"transaction_id": ["=HYPERLINK()"], "probability": [0.9], "alert": [True], "reasons": [["amount", "hour"]]}
    )
    assert alert_list(rows).decode().splitlines()[1] == '"\'=HYPERLINK()",0.9,"amount hour"'


@pytest.mark.parametrize(
    ("name", "message"),
    [("days/", "is missing; expected the scores"), ("manifest/", "is not a readable manifest of scores")],
)
def test_lost_scores_are_named(tmp_path: Path, name: str, message: str) -> None:
    """Fails when a lost file makes a batch score its transactions again, or ends it without the file's name."""
    storage = open_folder(str(tmp_path))
    score_input(storage, EARLIER, T1)
    for lost in storage.names(f"scores/{NAME}/{name}"):
        if name == "days/":
            storage.discard(lost)
        else:
            storage.write_atomic(lost, b"{")
    with pytest.raises(FraudDetectionError, match=message):
        score_input(storage, LATER, T2)


def test_the_manifest_has_its_documented_name(tmp_path: Path) -> None:
    """Fails when a consumer that follows docs/storage.md finds no manifest."""
    storage = open_folder(str(tmp_path))
    score_input(storage, EARLIER, T1)
    assert storage.names(f"scores/{NAME}/manifest/") == [score_manifest_file(NAME, 1)]


def test_a_manifest_is_compressed_and_an_uncompressed_one_is_read(tmp_path: Path) -> None:
    """Fails when hourly manifests fill the bucket, or the scores of an earlier release are scored again."""
    storage = open_folder(str(tmp_path))
    score_input(storage, EARLIER, T1)
    store, name = ScoreStore(storage, NAME), score_manifest_file(NAME, 1)
    content, scored = storage.read(name), store.newest()
    assert content is not None
    assert scored is not None
    plain = gzip.decompress(content)
    storage.write_atomic(name, plain)
    assert store.newest() == scored == ScoreManifest.model_validate_json(plain)
    storage.write_atomic(name, content[:-9])
    with pytest.raises(FraudDetectionError, match="it cannot be decompressed; expected what fraud-detection score"):
        store.newest()
