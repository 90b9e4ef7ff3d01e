"""The initialization action that shuts a cluster's hosts down: it does exactly that, and reports what is wrong."""

import subprocess
from pathlib import Path

import pytest

from deployment.paths import ROOT

SCRIPT = ROOT / "deployment" / "shutdown_host.sh"


def run(folder: Path, *arguments: str, code: int = 0) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    """The script's result, and the arguments with which it called a fake `shutdown`."""
    asked, fake = folder / "asked", folder / "shutdown"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{asked}"\nexit {code}\n')
    fake.chmod(0o755)
    # Data Proc asks for the interpreter's whole path, so the script starts where the PATH has no bash either. The real
    # shutdown must not be reached whatever the script does.
    environment = {"PATH": str(folder)}
    done = subprocess.run([str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False)
    return done, asked.read_text().splitlines() if asked.exists() else []


def test_a_host_is_shut_down_after_the_given_minutes(tmp_path: Path) -> None:
    """Fails when a forgotten cluster costs money without end, or stops in the middle of a run."""
    done, asked = run(tmp_path, "240")
    assert done.returncode == 0, done.stderr
    assert asked[:2] == ["-P", "+240"]


def test_a_host_that_cannot_be_shut_down_is_reported(tmp_path: Path) -> None:
    """Fails when a host starts without its scheduled shutdown and nobody notices."""
    assert run(tmp_path, "240", code=3)[0].returncode == 3


@pytest.mark.parametrize("arguments", [(), ("",), ("0",), ("3h",), ("-c",), ("now",), ("1.5",)])
def test_a_wrong_number_shuts_nothing_down(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Fails when a mistyped setting shuts all hosts down at once."""
    done, asked = run(tmp_path, *arguments)
    assert (done.returncode, asked) == (2, [])
    assert "expected a whole number such as 240" in done.stderr
