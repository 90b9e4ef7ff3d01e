"""No password is shown, in whichever form an address contains it."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from fakes.registry import NAME, leases_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_detection.cli import main
from fraud_detection.errors import FraudDetectionError, SettingsError
from fraud_detection.masking import mask
from fraud_detection.registry import Registry
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.settings import load_settings
from fraud_detection.storage import open_folder

PIECES = ("K1xQ", "K2xQ", "K3xQ")
"""What every password consists of, with nasty signs between: no piece of it may be seen anywhere."""
SIGNS = st.text(st.sampled_from("#/@?%:&=+;,!$*()[]{}<>\\|^`~'\" .-_éß密07aF"), min_size=1, max_size=4)
TEXTS = ("{}", "at '{}' it failed", '{{"uri": "{}"}}', "{} and http://b:c@d/", "http://***@e: {}")
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "ftp", "sqlite", "databricks", "HTTP")
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def passwords(draw: st.DrawFn) -> str:
    first, second, third = PIECES
    joined = f"{first}{draw(SIGNS)}{second}{draw(SIGNS)}{third}{draw(st.sampled_from(['', '@', '#']))}"
    return quote(joined, safe="") if draw(st.booleans()) else joined


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """An address with a password, with or without a user name."""
    user = draw(st.sampled_from(["anna:", "", "anna%40corp:"]))
    host = draw(st.sampled_from(["host", "127.0.0.1:9", "[::1]:9", "host/", "host/a/b"]))
    return f"{draw(st.sampled_from(SCHEMES))}://{user}{draw(passwords())}@{host}"


def is_shown(text: str) -> bool:
    return any(piece in text for piece in PIECES)


@quick
@given(
    addresses(),
    st.sampled_from(["{}", "at '{}' it failed", '{{"uri": "{}"}}', "{} and http://b:c@d/", "http://***@e: {}"]),
)
def test_a_text_shows_no_password(address: str, text: str) -> None:
    """Fails when an address in a message shows its password to everybody who reads the log."""
    shown = mask(text.format(address))
    assert not is_shown(shown)
    assert mask(shown) == shown


@quick
@given(addresses())
def test_an_address_is_read_or_refused_without_its_password(tmp_path: Path, address: str) -> None:
    """Fails when an ambiguous address is printed, or passed on to libraries that split it wrongly."""
    try:
        connection = Connection(address, NAME)
    except SettingsError as error:
        assert not is_shown(str(error))
        assert "expected http://HOST:PORT" in str(error)
        return
    assert not is_shown(connection.shown_uri)
    assert re.fullmatch(r"[a-z0-9+]+://[A-Za-z0-9._~%-]*(:[A-Za-z0-9._~%-]*)?@[^@?#]+", connection.uri)
    assert not is_shown(connection.masked(f"x {connection.uri} y {address} z"))
    log = DecisionLog(open_folder(str(tmp_path)), NAME)
    output = address.replace("ftp", "s3a")
    registry = Registry(
        address, NAME, log, leases=leases_in(tmp_path), publish=lambda *_: {}, config="c.yaml", output=output
    )
    command = registry.commands.without_reason("rollback")
    assert not is_shown(command)


@pytest.mark.parametrize("sign", "#/?")
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_refused_address_says_how_to_write_it(scheme: str, sign: str) -> None:
    """Fails when the message about such a password does not say how to write it."""
    with pytest.raises(SettingsError, match=rf"{sign if sign == '/' else re.escape(sign)} as {quote(sign, safe='')}"):
        Connection(f"{scheme}://anna:se{sign}cret@host:5000", NAME)


@pytest.mark.parametrize("written", ["p@s:s%x é", "p%40s%3As%25x%20%C3%A9"])
def test_a_password_is_read_whether_it_is_encoded_or_not(written: str) -> None:
    """Fails when an unambiguous password is refused, or sent as another one."""
    from requests import Request as HttpRequest
    from sqlalchemy.engine import make_url

    connection = Connection(f"http://anna:{written}@host:5000/", NAME)
    assert connection.uri == "http://anna:p%40s%3As%25x%20%C3%A9@host:5000"
    sent = str(HttpRequest("GET", connection.uri).prepare().headers["Authorization"]).removeprefix("Basic ")
    assert base64.b64decode(sent).decode("latin1") == "anna:p@s:s%x é"
    assert make_url(Connection(f"postgresql://anna:{written}@host/db", NAME).uri).password == "p@s:s%x é"  # noqa: S105


@quick
@given(addresses())
def test_wrong_arguments_show_no_password(address: str) -> None:
    """Fails when a misplaced argument is repeated with its password."""
    lines = [
        ["retrain", address],
        [address],
        ["retrain", "--input", "x", "--as-of", address],
        ["retrain", "--input", "x", "--engine", address],
        ["retrain", "--input", "x", "--run-name", address],
        ["retrain", f"--traking-uri={address}"],
        ["rollback", "--to", address],
        ["create-data", "--start", address],
    ]
    for line in lines:
        done = CliRunner().invoke(main, line)
        assert done.exit_code == 2
        assert not is_shown(done.output + done.stderr), line


@quick
@given(addresses())
def test_places_and_settings_show_no_password(tmp_path: Path, address: str) -> None:
    """Fails when a path, a label table or a misplaced setting is repeated with its password."""
    config = tmp_path / "settings.yaml"
    for text in (json.dumps({"tracking_uri": address}), f"tracking_uri: {address}\n  x: [", f'"{address}'):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError) as wrong:
            load_settings(config)
        assert not is_shown(str(wrong.value)), text
    for place in (address, address.replace("http", "s3a"), f"s3a://{address.partition('://')[2]}"):
        done = CliRunner().invoke(main, ["decisions", "--output", place])
        assert not is_shown(done.output + done.stderr), place


@contextmanager
def _closed() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"127.0.0.1:{port}"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passwords())
def test_a_run_shows_no_password(tmp_path: Path, password: str) -> None:
    """Fails when a run's output or outcome contains the password of MLflow's address."""
    config = tmp_path / "settings.yaml"
    config.write_text("", encoding="utf-8")
    with _closed() as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://anna:{password}@{host}")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        words = ["retrain", "--input", str(tmp_path), "--output", str(tmp_path / "out"), "--config", str(config)]
        done = CliRunner().invoke(main, [*words, "--run-name", "r", "--json"])
    assert done.exit_code in (2, 75), done.output
    left = [path.read_text(encoding="utf-8", errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert json.loads((tmp_path / "out" / "outcomes" / "r.json").read_text())["exit_code"] == done.exit_code
    assert not is_shown("\n".join([done.output, done.stderr, *left]))


@quick
@given(addresses())
def test_every_error_of_the_library_is_masked(address: str) -> None:
    """Fails when one place that raises an error does not mask what it repeats."""
    assert not is_shown(str(FraudDetectionError(f"engine sail failed: cannot open {address}; see its log")))


def test_a_bucket_and_a_database_with_an_at_sign_are_shown_whole(tmp_path: Path) -> None:
    """Fails when a path without a password is masked, and the rollback command cannot be copied."""
    for place in ("s3a://bucket/a@b/c", "sqlite:////data/anna@corp/mlflow.db", "file:///data/anna@corp"):
        assert mask(f"--output {place}") == f"--output {place}"
    uri = f"sqlite:///{tmp_path}/anna@corp/mlflow.db"
    log = DecisionLog(open_folder(str(tmp_path)), NAME)
    assert Registry(uri, NAME, log, leases=leases_in(tmp_path), publish=lambda *_: {}).shown_uri == uri
    assert mask("models:/fraud_detection@champion") == "models:/fraud_detection@champion"


def test_a_secret_in_a_query_is_hidden() -> None:
    """Fails when a password in an address's query, as some drivers accept it, is shown."""
    assert mask("postgresql://host/db?user=u&password=p#1&sslmode=require") == (
        "postgresql://host/db?user=u&password=***&sslmode=require"
    )


def test_a_database_without_a_driver_is_explained_without_its_password(tmp_path: Path) -> None:
    """Fails when a missing database driver ends in a stack trace, or its message shows the password."""
    log = DecisionLog(open_folder(str(tmp_path)), NAME)
    registry = Registry(
        "mysql+pymysql://anna:K1xQ@host/db", NAME, log, leases=leases_in(tmp_path), publish=lambda *_: {}
    )
    with pytest.raises(FraudDetectionError, match=r"MLflow at mysql\+pymysql://\*\*\*@host/db failed"):
        registry.champion()


@pytest.mark.parametrize("uri", ["http://***@127.0.0.1:1", "postgresql://***@db/mlflow"])
def test_an_address_that_a_message_has_masked_is_not_taken_for_one(uri: str) -> None:
    """Fails when a copied command logs in as the user `***`, and MLflow's refusal suggests the wrong fix."""
    with pytest.raises(SettingsError, match=r"comes from a message, which hides user and password"):
        Connection(uri, NAME)
