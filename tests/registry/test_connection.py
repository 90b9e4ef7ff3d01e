"""The connection to MLflow: its addresses, its failures, and what it prints."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest
from factories import decision
from fakes.registry import (
    NAME,
    T1,
    T2,
    T3,
    World,
    artifact,
    model,
    registry_at,
    world,
)

from fraud_detection.cli import default_tracking_uri
from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError, SettingsError
from fraud_detection.registry import RunRecord, recording, sqlite
from fraud_detection.registry.connection import Connection
from fraud_detection.schema import Outcome

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A service that gives the same response to every request; yields its host and port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def test_an_mlflow_that_is_not_there_can_be_tried_again(tmp_path: Path) -> None:
    """Fails when an unavailable MLflow makes the run hang for minutes, or is not retried by the scheduler."""
    with server(200, b"{}") as gone:
        pass
    registry = registry_at(f"http://anna:s3cr3t@{gone}", tmp_path)
    with pytest.raises(ServiceUnavailableError) as raised:
        registry.resume_open_intents()  # imports MLflow, which takes its own time
    begun = monotonic()
    with pytest.raises(ServiceUnavailableError):
        registry.champion()
    assert monotonic() - begun < 15
    assert str(raised.value).startswith(f"MLflow at http://***@{gone} cannot be reached")
    assert "s3cr3t" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, b"You are not authenticated. Please see the docs", FraudDetectionError, "MLFLOW_TRACKING_USERNAME"),
        (403, b"Permission denied", FraudDetectionError, "refuses these credentials"),
        (
            403,
            b'{"error_code": "PERMISSION_DENIED", "message": "no"}',
            FraudDetectionError,
            "refuses these credentials",
        ),
        (404, b"<html>nginx</html>", FraudDetectionError, "does not answer like MLflow"),
        (200, b"<html>welcome</html>", FraudDetectionError, "does not answer like MLflow"),
        (500, b"oops", ServiceUnavailableError, "cannot be reached"),
        (502, b"<html>bad gateway</html>", ServiceUnavailableError, "cannot be reached"),
        (
            503,
            b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}',
            ServiceUnavailableError,
            "cannot be reached",
        ),
        (429, b"slow down", ServiceUnavailableError, "cannot be reached"),
    ],
)
def test_what_the_service_answers_decides_whether_to_try_again(
    tmp_path: Path, status: int, body: bytes, kind: type[Exception], says: str
) -> None:
    """Fails when wrong credentials are retried every hour, or a restarting MLflow counts as a permanent failure."""
    with server(status, body) as host:
        registry = registry_at(f"http://anna:s3cr3t@{host}", tmp_path)
        for call in (registry.champion, registry.resume_open_intents):
            with pytest.raises(FraudDetectionError) as raised:
                call()
            assert type(raised.value) is kind
            assert says in str(raised.value)
            assert host in str(raised.value)
            assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    ["", "mlruns", "/srv/mlruns", "file:///srv/mlruns", "htp://localhost:5000", "http://", "http://[::1", "sqlite://",
     "sqlite:///", "sqlite:///:memory:", "sqlite:mlflow.db", "postgresql://", "databricks"],
)  # fmt: skip
def test_an_address_that_is_not_one_of_mlflow_is_a_wrong_setting(tmp_path: Path, uri: str) -> None:
    """Fails when a misspelt tracking URI silently starts a new registry in some folder."""
    with pytest.raises(SettingsError, match=r"--tracking-uri .* expected http://HOST:PORT"):
        registry_at(uri, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_address_is_named_without_its_password() -> None:
    """Fails when the password in a tracking URI appears in messages and in the scheduler's logs."""
    with pytest.raises(SettingsError) as raised:
        Connection("ftp://anna:s3cr3t@host/x", NAME)
    assert "s3cr3t" not in str(raised.value)
    connection = Connection("https://anna:p%40ss@mlflow.example:5000/", NAME)
    assert connection.shown_uri == "https://***@mlflow.example:5000"
    assert connection.masked("to https://anna:p%40ss@mlflow.example or anna:p@ss@x") == (
        "to https://***@mlflow.example or ***@x"
    )


def test_no_password_reaches_the_parameters_of_a_run(tmp_path: Path) -> None:
    """Fails when a password in a parameter's value is shown to everybody who may read MLflow."""
    registry = registry_at("http://anna:s3cr3t@mlflow.example", tmp_path)
    assert recording.loggable(
        registry._context.connection, "retrain --tracking-uri http://anna:s3cr3t@mlflow.example"
    ) == ("retrain --tracking-uri http://***@mlflow.example")


def test_a_database_that_is_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """Fails when a file that is not a database is overwritten, or MLflow retries it for minutes."""
    (tmp_path / "mlflow.db").write_text("shopping list")
    with pytest.raises(FraudDetectionError, match="is not an SQLite database"):
        world(tmp_path).registry.champion()
    assert (tmp_path / "mlflow.db").read_text() == "shopping list"


def test_a_database_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Fails when a database that cannot be created ends in SQLAlchemy's stack trace after minutes of retries."""
    (tmp_path / "output").write_text("a file where a folder should be")
    with pytest.raises(FraudDetectionError, match=r"output/mlflow\.db cannot be opened for writing.*--output"):
        registry_at(f"sqlite:///{tmp_path}/output/mlflow.db", tmp_path).champion()


def test_a_deleted_experiment_is_explained(empty: World) -> None:
    """Fails when a deleted MLflow experiment breaks a run without saying how to restore it."""
    empty.client.delete_experiment(empty.connection.experiment_id)
    with pytest.raises(FraudDetectionError, match="mlflow experiments restore --experiment-id"):
        world(empty.output).registry.resume_open_intents()


def test_a_relative_address_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _empty: World) -> None:
    """Fails when a relative database path makes a run from another folder look for the artifacts there."""
    here = world(tmp_path / "a folder with # and ü")
    monkeypatch.chdir(here.output)
    registry = registry_at("sqlite:///mlflow.db", here.output)
    given = decision(Outcome.PROMOTED, T1)
    registry.record(given, RunRecord(challenger=model()))
    monkeypatch.chdir("/")
    assert registry_at(here.tracking_uri, here.output).champion() is not None
    assert artifact(here, 1, "model.ubj").name == "model.ubj"
    assert (here.output / "mlartifacts").is_dir()


@pytest.mark.parametrize("folder", ["a%20b", "a?b", "a%2fb", "a#b", "a b", "ж=1&c"])
def test_a_folder_of_any_name_holds_the_database(tmp_path: Path, folder: str) -> None:
    """Fails when `--output a%20b` or `--output a?b` cannot be used, or creates another folder, such as `a b`."""
    output = tmp_path / folder
    assert registry_at(default_tracking_uri(str(output)), output).champion() is None
    assert (output / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert folder in Connection(default_tracking_uri(str(output)), "fraud_detection").shown_uri


@pytest.mark.parametrize("name", ["a%20b.db", "a?b.db"])
def test_a_database_whose_own_name_mlflow_misreads_is_refused(tmp_path: Path, name: str) -> None:
    """Fails when `--tracking-uri sqlite:///a%20b.db` opens another file, or ends without a next step."""
    with pytest.raises(SettingsError, match=r"its name contains \? or .* %20; rename the file"):
        registry_at(f"sqlite:///{tmp_path}/{name}", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_services_in_one_process_do_not_mix(served: World, tmp_path: Path, _empty: World) -> None:
    """Fails when one process with two outputs registers a model in the wrong MLflow."""
    other = world(tmp_path / "other", _empty)
    assert other.registry.champion() is None
    assert served.record(Outcome.PROMOTED, T1).version == 2
    assert other.record(Outcome.PROMOTED, T1).version == 1
    assert served.record(Outcome.PROMOTED, T2, seed=2).version == 3
    assert "MLFLOW_TRACKING_URI" not in os.environ


QUIET = """
import sys
from pathlib import Path
from fakes.registry import T1, T2, world
from fraud_detection.schema import Outcome
here = world(Path(sys.argv[1]))
here.registry.resume_open_intents(T1)
here.record(Outcome.PROMOTED, T1)
here.registry.champion()
here.record(Outcome.PROMOTED, T2, seed=2)
here.registry.rollback(None, "r", "anna")
"""


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    """Fails when MLflow's migrations and warnings are printed into the output of `--json`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "output")],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        "decisions",
        "leases",
        "mlartifacts",
        "mlflow.db",
    ]


def test_a_first_run_killed_while_it_makes_the_database_is_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrate: Callable[[Path], None]
) -> None:
    """Fails when Ctrl-C during the first run leaves a half-migrated database that no later run can use."""
    import sqlalchemy

    monkeypatch.setattr(sqlite, "_migrate", migrate)
    statements = []

    def interrupt(*_arguments: object) -> None:
        statements.append(1)
        if len(statements) == 300:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            world(tmp_path).registry.resume_open_intents()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    assert not (tmp_path / "mlflow.db").exists()
    assert world(tmp_path).record(Outcome.PROMOTED, T1).version == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond one page."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_explained_and_the_next_run_goes_on(served: World) -> None:
    """Fails when a full disk ends in a stack trace, or leaves a champion without its files."""
    given = decision(Outcome.PROMOTED, T2, champion_version=1)
    with full_disk(), pytest.raises(FraudDetectionError) as raised:
        served.record_as_it_is(given)
    assert type(raised.value) is FraudDetectionError
    assert served.aliases() == {"champion": 1}
    assert served.log.find(T2) is None
    fresh = world(served.output)
    assert fresh.registry.resume_open_intents(T2) == ()
    assert fresh.record(Outcome.PROMOTED, T3).version == 2
