"""Every shell script of the repository, in whichever folder."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _programs() -> list[Path]:
    """The files of the repository that name their interpreter."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.rstrip("\0").split("\0")]
    return [path for path in paths if path.is_file() and _first_line(path).startswith(b"#!")]


PROGRAMS = _programs()
SCRIPTS = [path for path in PROGRAMS if _first_line(path).split()[-1].endswith(b"sh")]


def test_every_program_can_be_run() -> None:
    """Fails when a script has lost its executable bit, and whatever calls it stops at `Permission denied`."""
    assert SCRIPTS, "no script is found, so none is checked"
    assert [path for path in PROGRAMS if not os.access(path, os.X_OK)] == []


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_passes_shellcheck(script: Path) -> None:
    """Fails when a mistake in a shell script shows only at night, on a machine that nobody watches."""
    done = subprocess.run(["shellcheck", "--severity=style", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
