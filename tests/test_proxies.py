"""A proxy in the environment: local services are reached without it, and a proxy that never answers gives a message."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest
from processes import retrain

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.proxies import exempt_loopback
from fraud_detection.registry import Leases, Registry
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.storage import open_folder

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")
EXEMPT = ("no_proxy", "NO_PROXY", "no_grpc_proxy")


class Silent:
    """A server that takes every connection and never answers; it counts them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                self.taken.append(self.listener.accept()[0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.listener.close()
    for connection in server.taken:
        connection.close()


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _environment(proxy: str, no_proxy: str) -> dict[str, str]:
    cleared = dict.fromkeys(EXEMPT, "")
    return cleared | dict.fromkeys(PROXIES, proxy) | {"no_proxy": no_proxy}


@pytest.mark.slow
@pytest.mark.parametrize("no_proxy", ["", "corp.example", "*"])
def test_the_embedded_engine_is_reached_without_a_proxy(
    tmp_path: Path, transactions: Path, silent: Silent, no_proxy: str
) -> None:
    """Fails when a run behind a company's proxy connects to its own engine through it, and hangs."""
    ran = retrain(tmp_path, transactions, environment=_environment(silent.url, no_proxy))
    assert ran.exit_code == 0, ran.stderr
    assert ran.json["decision"] == "promoted"
    assert silent.taken == [], "nothing of a run on one machine is the proxy's business"


@pytest.mark.slow
def test_a_closed_port_for_a_proxy_is_no_obstacle(tmp_path: Path, transactions: Path, closed: str) -> None:
    """Fails when a proxy that is down ends a run that does not need it."""
    ran = retrain(tmp_path, transactions, environment=_environment(closed, ""))
    assert ran.exit_code == 0, ran.stderr


def test_a_silent_proxy_before_mlflow_is_given_up(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a run hangs at a proxy before MLflow that accepts connections and never answers."""
    for name, value in _environment(silent.url, "").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    registry = Registry(
        "http://mlflow.example",
        "m",
        DecisionLog(open_folder(str(tmp_path)), "m"),
        leases=Leases(open_folder(str(tmp_path)), "m"),
        publish=lambda *_: {},
    )
    with pytest.raises(ServiceUnavailableError, match=r"MLflow at http://mlflow\.example cannot be reached"):
        registry.champion()
    assert silent.taken


def test_a_silent_mlflow_is_given_up(tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an MLflow server that hangs makes the run hang."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    storage = open_folder(str(tmp_path))
    registry = Registry(silent.url, "m", DecisionLog(storage, "m"), leases=Leases(storage, "m"), publish=lambda *_: {})
    begun = monotonic()
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        registry.champion()
    assert monotonic() - begun < 60


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"no_proxy": "", "NO_PROXY": "", "no_grpc_proxy": ""}),
        ({"no_proxy": "a.example, b.example"}, dict.fromkeys(EXEMPT, "a.example,b.example,")),
        ({"NO_PROXY": "a.example"}, dict.fromkeys(EXEMPT, "a.example,")),
        (
            {"no_proxy": "a.example", "NO_PROXY": "b.example", "no_grpc_proxy": "c.example"},
            {"no_proxy": "a.example,", "NO_PROXY": "b.example,", "no_grpc_proxy": "c.example,"},
        ),
    ],
)
def test_what_was_exempt_stays_exempt(before: dict[str, str], after: dict[str, str]) -> None:
    """Fails when a company's own exempt addresses are suddenly requested through its proxy."""
    exempt_loopback(before)
    assert before == {name: f"{value}localhost,127.0.0.1,::1,169.254.169.254" for name, value in after.items()}
    again = dict(before)
    exempt_loopback(again)
    assert again == before


def test_everything_exempt_stays_so() -> None:
    """Fails when `no_proxy=*` loses its meaning, and all other addresses are requested through the proxy."""
    environment = {"no_proxy": "*"}
    exempt_loopback(environment)
    assert (environment["no_proxy"], environment["NO_PROXY"]) == ("*", "*")
    assert "127.0.0.1" in environment["no_grpc_proxy"], "gRPC does not know *"
