"""MLflow's machine: the files of its cloud-init in a folder, and the commands of its units, on this machine."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cloud import ROOT, RehearsalError
from rehearsal.processes import answers, running, wait_for

PYTHON = ROOT / ".venv-mlflow-machine" / "bin" / "python"
"""The Python with the machine's own packages: `make .venv-mlflow-machine/.synced` installs what install.sh would."""
SETTINGS = "/etc/mlflow/server.json"

_VENV_PYTHON = "/opt/mlflow/venv/bin/python"
_UNITS = "/etc/systemd/system"
_FIRST_LINE = "#cloud-config\n"
_START_SECONDS = 240.0


@dataclass(frozen=True)
class Boot:
    """The cloud-init data of the machine's first boot."""

    cloud_config: Mapping[str, Any]
    files: Mapping[str, str]
    modes: Mapping[str, str]
    size: int

    @property
    def settings(self) -> dict[str, Any]:
        """What the machine is told of its surroundings."""
        found: dict[str, Any] = json.loads(self.files[SETTINGS])
        return found

    def command(self, unit: str) -> list[str]:
        """The words of a unit's ExecStart."""
        lines = self.files[f"{_UNITS}/{unit}.service"].splitlines()
        (words,) = [line.removeprefix("ExecStart=").split() for line in lines if line.startswith("ExecStart=")]
        return words


def boot_of(user_data: str) -> Boot:
    """Read a machine's user-data. Raises RehearsalError if it is none of cloud-init."""
    if not user_data.startswith(_FIRST_LINE):
        raise RehearsalError(f"user-data is not of cloud-init; found: {user_data[:40]!r}; expected: {_FIRST_LINE!r}")
    config = yaml.safe_load(user_data)
    files = {file["path"]: base64.b64decode(file["content"]).decode() for file in config["write_files"]}
    return Boot(config, files, {file["path"]: file["permissions"] for file in config["write_files"]}, len(user_data))


@dataclass(frozen=True)
class Machine:
    """A folder laid out like the machine, and the commands of its services."""

    folder: Path
    settings: dict[str, Any]
    python: str
    services: dict[str, list[str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['port']}"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "RUNTIME_DIRECTORY": str(self.folder / "run"), "HOME": str(self.folder)}

    @property
    def log(self) -> Path:
        return self.folder / "log"


def machine_in(folder: Path, boot: Boot, addresses: Mapping[str, Any], python: str = str(PYTHON)) -> Machine:
    """Write the boot's files into a folder, with addresses of this machine among its settings."""
    port = addresses["port"]
    local = {"address": "127.0.0.1", "allowed_hosts": [f"127.0.0.1:{port}"], "workers": 1}
    settings = {**boot.settings, **local, **addresses}
    (folder / "run").mkdir(mode=0o700, parents=True)
    for path, text in boot.files.items():
        (folder / Path(path).name).write_text(text)
    (folder / "server.json").write_text(json.dumps(settings))
    services = {}
    for name in ("mlflow", "mlflow-accounts"):
        program, *words = boot.command(name)
        if program != _VENV_PYTHON:
            raise RehearsalError(f"{name}.service starts {program}; expected: {_VENV_PYTHON}")
        services[name] = [python, *(str(folder / Path(word).name) for word in words)]
    return Machine(folder, settings, python, services)


@contextmanager
def started(machine: Machine) -> Iterator["subprocess.Popen[bytes]"]:
    """The command of mlflow.service, running. Raises RehearsalError with its log if it does not start."""
    command = machine.services["mlflow"]
    with running(command, machine.environment, machine.log, machine.folder / "run") as process:
        wait_for(lambda: answers(f"{machine.url}/health"), "MLflow", _START_SECONDS, process, machine.log)
        yield process


def make_accounts(machine: Machine) -> None:
    """The command of mlflow-accounts.service, once. Raises RehearsalError with what it wrote."""
    command = machine.services["mlflow-accounts"]
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RehearsalError(f"mlflow-accounts.service failed; found:\n{done.stderr[-2000:]}")
