"""An emulated cloud for Terraform: the emulator, an S3 server behind it, and the environment that leads there."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from emulator.client import Emulator, serving
from emulator.s3 import S3Server
from emulator.s3_front import DOMAIN

ROOT = Path(__file__).resolve().parents[1]
MOTO = ROOT / ".venv-infra" / "bin" / "moto_server"
"""The S3 server: `make .venv-infra/.synced` installs it."""
S3A = ROOT / ".s3a"
"""The jars with which Spark reads the buckets: `make s3a` fetches them."""
TERRAFORM_ACCOUNT = "terraform"
"""Whoever applies: an account with `admin` on the folder. Every other account has what infra/ grants, and no more."""

_DEADLINE = 180.0  # seconds to start


class RehearsalError(Exception):
    """A stage failed; the message says what, found, expected and the next command."""


@dataclass(frozen=True)
class RehearsedCloud:
    """A running emulator and the S3 server behind it."""

    emulator: Emulator
    s3_endpoint: str

    def leftovers(self, before: Mapping[str, list[str]]) -> list[str]:
        """What is in the cloud and in the S3 server now and was not before."""
        now = self.emulator.resources()
        made = [f"{kind} {id_}" for kind, ids in now.items() for id_ in ids if id_ not in before.get(kind, [])]
        with S3Server(self.s3_endpoint).request("GET", "/", {}) as answer:
            buckets = re.findall(r"<Name>(.+?)</Name>", answer.read().decode())
        return made + [f"bucket {name} of the S3 server" for name in buckets]

    @property
    def environment(self) -> dict[str, str]:
        """What leads Terraform's provider to the emulator. Its S3 client knows buckets by host alone: hence a proxy."""
        cloud = self.emulator.cloud
        authorities = self.emulator.state / "no-authorities"
        authorities.mkdir(exist_ok=True)
        return {
            "YC_ENDPOINT": cloud["endpoint"],
            "YC_STORAGE_ENDPOINT_URL": f"http://{DOMAIN}",
            "YC_SERVICE_ACCOUNT_KEY_FILE": cloud["service_accounts"][TERRAFORM_ACCOUNT]["key"],
            "SSL_CERT_FILE": cloud["ca"],
            "SSL_CERT_DIR": str(authorities),
            "HTTP_PROXY": cloud["storage"],
            "NO_PROXY": "127.0.0.1,localhost",
        }


@contextmanager
def rehearsed_cloud(state: Path, settings: Mapping[str, Any] | None = None) -> Iterator[RehearsedCloud]:
    """An empty cloud with one account, that of Terraform; stopped at the exit."""
    given = dict(settings or {})
    names = {"service_accounts": {TERRAFORM_ACCOUNT: None}, **given.pop("names", {})}
    with ExitStack() as stack:
        endpoint = stack.enter_context(_moto(state))
        storage = {"s3_endpoint": endpoint, "port": 0, **given.pop("storage", {})}
        emulator = stack.enter_context(serving(state / "cloud", {**given, "names": names, "storage": storage}))
        yield RehearsedCloud(emulator, endpoint)


@contextmanager
def _moto(state: Path) -> Iterator[str]:
    """A moto server, which keeps objects in memory; yields its address."""
    if not MOTO.exists():
        raise RehearsalError(f"{MOTO} is missing; run: make .venv-infra/.synced")
    state.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    with (state / "moto.log").open("ab") as log:
        process = subprocess.Popen([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}", state / "moto.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    end = time.monotonic() + _DEADLINE
    while process.poll() is None and time.monotonic() < end:
        try:
            opener.open(address, timeout=5).close()
        except HTTPError:
            return
        except OSError:  # not there yet, or too busy to answer in time
            time.sleep(0.1)
        else:
            return
    raise RehearsalError(f"the S3 server did not start; found: {log.read_text()[-1000:]}; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This process's environment without what leads to a real cloud or through a proxy."""
    leads = ("YC_", "TF_", "AWS_")
    proxies = {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}
    return {
        name: value for name, value in os.environ.items() if not name.startswith(leads) and name.lower() not in proxies
    }
