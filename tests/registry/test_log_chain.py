"""An entry of the log that is lost, changed or put in between is noticed before a run counts looks by it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from factories import candidate_record, decision, opening
from fakes.mlflow_registry import FakeMlflow
from fakes.object_storage import KEY, SECRET, serving
from fakes.registry import NAME, Killed, World, leases_in, world

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.registry import Registry
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.registry.log_chain import GENESIS, HEAD_TAG, RECENT, LogMismatchError, append, verify_chain
from fraud_detection.registry.opening import LogMovedError
from fraud_detection.schema import SCHEMA_VERSION, Decision, LookKey, Outcome
from fraud_detection.storage import open_folder

pytest_plugins = ["registry_fixtures"]

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CANDIDATE = candidate_record(START)
LOOK = LookKey(candidate=CANDIDATE.key, champion_version=1, number=1)


class FakeRegistry(FakeMlflow):
    """The registered model, which may not exist yet."""

    exists = True

    def get_registered_model(self, name: str) -> object:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        if not self.exists:
            raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)
        return super().get_registered_model(name)


class Log:
    """A decision log with its registered model; each use is another process."""

    def __init__(self, output: Path, url: str | None = None) -> None:
        self.output, self.client = output, FakeRegistry()
        self.url = url or str(output)
        self.folder = output / "decisions" / NAME

    @property
    def registry(self) -> Registry:
        storage = open_folder(self.url)
        leases = leases_in(self.output)
        made = Registry(
            "sqlite:////unused/mlflow.db", NAME, DecisionLog(storage, NAME), leases=leases, publish=_publish
        )
        vars(made._context.connection).update(client=self.client, experiment_id="0")
        return made

    @property
    def context(self) -> Context:
        return self.registry._context

    def decide(self, hours: int, outcome: Outcome = Outcome.REFUSED) -> Decision:
        """What the run of an hour writes."""
        with self.context.leases.hold("a run") as lease:
            as_of = START + hours * HOUR
            given = decision(outcome, as_of, schema_version=SCHEMA_VERSION, decided_at=datetime.now(UTC))
            written = append(self.context, lease, given)
            assert written is not None
            return written

    def write(self, entry: Decision | Intervention) -> None:
        """Put an entry into the folder by hand."""
        assert self.context.log.write(entry)

    def path(self, hours: int) -> Path:
        return self.folder / f"{START + hours * HOUR:%Y%m%dT%H%M%SZ}.json"

    def assert_whole(self, count: int, since: datetime | None = START) -> None:
        assert len(verify_chain(self.context, since).entries) == count

    def fault(self, since: datetime | None = START) -> str:
        with pytest.raises(LogMismatchError, match=r"fraud-detection accept-log .* --reason") as raised:
            verify_chain(self.context, since)
        return str(raised.value)


def _publish(_decision: Decision, _content: bytes) -> dict[str, bytes]:
    return {}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def three(log: Log) -> Log:
    for hours in range(3):
        log.decide(hours)
    return log


def test_each_entry_holds_the_digest_of_the_one_before(log: Log) -> None:
    """Fails when entries are not linked, and a lost one goes unnoticed."""
    assert verify_chain(log.context).head == GENESIS
    first, second = log.decide(0), log.decide(1)
    assert first.previous_entry == GENESIS
    assert second.previous_entry not in (None, GENESIS)
    assert json.loads(log.path(1).read_text())["previous_entry"] == second.previous_entry
    log.assert_whole(2)
    assert log.client.tags[HEAD_TAG].startswith(f"decisions/{NAME}/20260301T010000Z.json ")


@pytest.mark.parametrize("hours", [0, 1, 2])
def test_a_deleted_entry_is_noticed(three: Log, hours: int) -> None:
    """Fails when looks whose entry was deleted are taken again, at a risk that nobody accepted."""
    three.path(hours).unlink()
    assert f"{START + min(hours + 1, 2) * HOUR:%Y%m%dT%H%M%SZ}.json" in three.fault()


@pytest.mark.parametrize("hours", [0, 1, 2])
def test_a_changed_entry_is_noticed(three: Log, hours: int) -> None:
    """Fails when somebody turns a refusal into something else, and the history tells it as it never was."""
    text = three.path(hours).read_text()
    three.path(hours).write_text(text.replace("better by average precision", "worse by average precision"))
    told = three.fault()
    assert "changed" in told
    assert three.path(hours).name in told or three.path(hours + 1).name in told


def test_an_entry_put_in_between_is_noticed(three: Log) -> None:
    """Fails when a forged or copied decision counts."""
    unlinked = decision(Outcome.REFUSED, START + 5 * HOUR, decided_at=datetime.now(UTC) + HOUR)
    three.write(unlinked)
    assert "20260301T050000Z.json" in three.fault()
    three.path(5).unlink()
    second = json.loads(three.path(1).read_text())["previous_entry"]
    three.write(unlinked.model_copy(update={"previous_entry": second, "as_of": START + 6 * HOUR}))
    assert "20260301T060000Z.json" in three.fault()


def test_an_entry_that_cannot_be_read_is_named(three: Log) -> None:
    """Fails when a damaged entry ends in a message that does not name it."""
    three.path(1).write_text("{")
    with pytest.raises(FraudDetectionError, match=r"20260301T010000Z\.json is not a readable decision"):
        verify_chain(three.context, START)


def test_two_models_in_one_folder_have_a_log_each(three: Log) -> None:
    """Fails when the entries of another model break a model's log."""
    other = DecisionLog(open_folder(str(three.output)), f"{NAME}_2")
    assert other.write(decision(Outcome.REFUSED, START, model_name=f"{NAME}_2"))
    three.assert_whole(3)
    (three.output / "decisions" / f"{NAME}_2" / "20260301T000000Z.json").rename(three.path(9))
    with pytest.raises(FraudDetectionError, match="belongs into"):
        verify_chain(three.context, START)


def test_the_tag_may_be_one_entry_behind(three: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run that is killed between writing an entry and moving the tag stops all later ones."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(three.client, "set_registered_model_tag", kill)
        three.decide(3)
    three.assert_whole(4)
    three.decide(4)
    three.assert_whole(5)
    assert "20260301T040000Z.json" in three.client.tags[HEAD_TAG]


def test_a_tag_that_is_two_entries_behind_is_noticed(three: Log) -> None:
    """Fails when MLflow is restored from an old copy, or entries are added by hand, and nobody hears of it."""
    before = three.client.tags[HEAD_TAG]
    three.decide(3)
    three.decide(4)
    three.client.tags[HEAD_TAG] = before
    assert "more than one entry follows" in three.fault()
    three.decide(5)  # a person's command is not stopped, and the fault stays
    assert "do not follow" in three.fault()


@pytest.mark.parametrize("tag", ["", "nonsense", "decisions/fraud_detection/20260301T990000Z.json 00"])
def test_a_tag_of_another_form_is_a_mismatch(three: Log, tag: str) -> None:
    """Fails when a broken tag ends in a stack trace, is taken for that of an empty log, or sends its user elsewhere."""
    three.client.tags[HEAD_TAG] = tag
    assert f"tag {HEAD_TAG} is {tag!r}; expected name and SHA-256 of the newest entry; nothing was" in three.fault()


@pytest.mark.parametrize("pinned", [False, True])
def test_a_tag_that_was_deleted_is_noticed(three: Log, monkeypatch: pytest.MonkeyPatch, pinned: bool) -> None:
    """Fails when a person who deletes the tag can delete the newest look as well, and the next entry hides it."""
    three.client.created -= 3_600_000
    del three.client.tags[HEAD_TAG]
    assert f"tag {HEAD_TAG} is missing" in three.fault()
    if pinned:  # no command of a person is refused, and none repairs what it does not know
        three.decide(3)
        assert "do not follow from the others" in three.fault()
    _accept(three, monkeypatch)
    three.decide(4)
    verify_chain(three.context, START)


def test_the_first_entry_after_the_model_may_have_no_tag(three: Log) -> None:
    """Fails when a first promotion that is killed before its tag is set stops all later runs."""
    del three.client.tags[HEAD_TAG]  # the model was created after the entry before the newest
    three.assert_whole(3)
    log = Log(three.output / "upgraded")
    log.client.created -= 3_600_000  # by the release before
    log.write(decision(Outcome.PROMOTED, START, decided_at=START, version=1))
    log.decide(1)
    del log.client.tags[HEAD_TAG]
    log.assert_whole(2)


@pytest.mark.parametrize("change", ["deleted", "edited"])
def test_a_fault_names_no_entry_that_is_whole_without_need(log: Log, change: str) -> None:
    """Fails when a message lists half of the log, and nobody finds which file to restore."""
    for hours in range(7):
        log.decide(hours)
    if change == "edited":
        log.path(4).write_text(log.path(4).read_text().replace("better by", "worse by"))
    else:
        log.path(4).unlink()
    last = log.path(4 if change == "edited" else 3).name
    folder = f"decisions/{NAME}"
    said = f"the entry before {folder}/{log.path(5).name} is missing, or it is {folder}/{last} and was changed; nothing"
    assert said in log.fault()


def test_without_a_registered_model_the_log_has_no_tag(log: Log) -> None:
    """Fails when the runs before the first promotion break their own log, or the first promotion does."""
    log.client.exists = False
    for hours in range(3):
        log.decide(hours)
    log.assert_whole(3)
    assert HEAD_TAG not in log.client.tags
    log.client.exists = True
    log.assert_whole(3)
    log.decide(3)
    log.assert_whole(4)
    assert HEAD_TAG in log.client.tags


def test_a_log_of_the_release_before_is_continued(log: Log) -> None:
    """Fails when the upgrade takes every older decision for a forgery, or a lost log for an empty one."""
    for hours in range(3):
        log.write(decision(Outcome.REFUSED, START + hours * HOUR, decided_at=START + hours * HOUR))
    log.assert_whole(3)
    first = log.decide(3)
    assert first.previous_entry not in (None, GENESIS)
    log.assert_whole(4)
    log.decide(4)
    log.assert_whole(5)
    log.path(2).unlink()
    assert "the entry before" in log.fault()


def test_only_recent_entries_are_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when every run of an old installation reads years of decisions."""
    context, read = log.context, list[str]()
    with context.leases.hold("runs") as lease:
        for day in range(100):
            append(context, lease, decision(Outcome.REFUSED, START + day * 24 * HOUR))
    monkeypatch.setattr(context.log, "contents", _noted(context.log.contents, read))
    found = verify_chain(context, START + 99 * 24 * HOUR - RECENT)
    assert len(found.entries) <= 46 + 32
    assert len(read) <= 46 + 32
    assert verify_chain(context).head == found.head
    read.clear()
    with context.leases.hold("a run") as lease:
        append(context, lease, decision(Outcome.REFUSED, START + 100 * 24 * HOUR))
    assert len(read) <= 4


def _noted(contents: Callable[..., dict[str, bytes]], read: list[str]) -> Callable[..., dict[str, bytes]]:
    def noted(names: list[str]) -> dict[str, bytes]:
        wanted = list(names)
        read.extend(wanted)
        return contents(wanted)

    return noted


def test_an_old_pin_does_not_break_the_chain(log: Log) -> None:
    """Fails when an unpin, which bears the time of its pin, hides the entry before it from a later run."""
    pinned = START - 400 * 24 * HOUR
    log.decide(0)
    with log.context.leases.hold("unpin") as lease:
        unpin = Intervention(
            action=Action.UNPIN,
            model_name=NAME,
            at=datetime.now(UTC),
            who="anna",
            reason="settled",
            from_version=1,
            to_version=1,
            pinned_at=pinned,
        )
        assert append(log.context, lease, unpin) is not None
    log.decide(1)
    log.assert_whole(3, START)
    log.assert_whole(3, None)
    log.path(0).unlink()
    assert "the entry before" in log.fault()


def test_a_log_is_accepted_as_it_is(three: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a lost entry stops every run for good, or an accepted log accepts later faults as well."""
    three.path(1).unlink()
    three.fault()
    done = _accept(three, monkeypatch)
    assert (done.action, done.who, done.reason) == (Action.ACCEPT_LOG, "anna", "the disk was lost")
    assert done.previous_entry not in (None, GENESIS)
    three.assert_whole(3)
    three.decide(3)
    three.decide(4)
    three.assert_whole(5)
    three.path(3).unlink()
    assert "the entry before" in three.fault()
    _accept(three, monkeypatch)
    three.assert_whole(5)


@pytest.mark.parametrize("broken", ["the newest entry", "the tag", "all entries"])
def test_any_fault_can_be_accepted(three: Log, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Fails when the command that an error names does not help."""
    if broken == "the tag":
        three.client.tags[HEAD_TAG] = "nonsense"
    for hours in {"the newest entry": [2], "the tag": [], "all entries": [0, 1, 2]}[broken]:
        three.path(hours).unlink()
    three.fault()
    _accept(three, monkeypatch)
    verify_chain(three.context, START)
    three.decide(7)
    verify_chain(three.context, START)


def test_a_whole_log_needs_no_acceptance(three: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the command cuts a chain that nothing is wrong with."""
    with pytest.raises(FraudDetectionError, match="nothing to accept"):
        _accept(three, monkeypatch)


def _accept(log: Log, monkeypatch: pytest.MonkeyPatch) -> Intervention:
    monkeypatch.setattr("fraud_detection.registry.rollback.finish_what_is_possible", lambda *_: None)
    return log.registry.accept_log("the disk was lost", "anna")


def test_an_opening_is_written_once_and_into_the_log_that_was_read(log: Log) -> None:
    """Fails when two runs take the same looks, or one of them looks that the other has charged already."""
    head = log.registry.verified_log().head
    given = opening(START, (CANDIDATE,), (LOOK,))
    written = log.registry.write_opening(given, head)
    assert written.looks == given.looks
    assert written.previous_entry == GENESIS
    assert log.registry.write_opening(given.model_copy(update={"looks": ()}), "stale") == written
    with pytest.raises(LogMovedError) as raised:
        log.registry.write_opening(opening(START + HOUR), head)
    assert isinstance(raised.value, ServiceUnavailableError)  # a retry helps
    assert log.context.log.unfinished_openings() == (written,)
    log.decide(0)
    assert log.context.log.unfinished_openings() == ()
    assert len(log.context.log.history()) == 1
    log.assert_whole(2)


def test_a_log_in_an_object_storage_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when entries of a bucket, listed in pages and read several at once, are missed or mixed up."""
    with serving() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        log = Log(tmp_path, "s3a://bucket/output")
        for hours in range(12):
            log.decide(hours)
        log.assert_whole(12)
        log.assert_whole(12, None)
        assert [entry.as_of for entry in log.context.log.history() if isinstance(entry, Decision)] == [
            START + hours * HOUR for hours in range(12)
        ]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_runs_and_rollbacks_of_the_real_registry_leave_a_whole_log(empty: World) -> None:
    """Fails when an ordinary life of a model (promotions, a rollback, an unpin, a retirement) breaks its log."""
    empty.record(Outcome.NO_DECISION, START)
    empty.record(Outcome.PROMOTED, START + HOUR, seed=0)
    empty.record(Outcome.PROMOTED, START + 2 * HOUR)
    empty.registry.rollback(None, "alerts doubled", "anna")
    empty.record(Outcome.REFUSED, START + 3 * HOUR)
    empty.registry.unpin("settled", "anna")
    empty.registry.retire(1, "a leaking feature", "anna")
    fresh = world(empty.output)
    entries = fresh.registry.verified_log().entries
    assert len(entries) == 7
    assert all(entry.previous_entry is not None for entry in entries)
    tag = fresh.client.get_registered_model(NAME).tags[HEAD_TAG]
    assert "-retire-champion.json" in tag
