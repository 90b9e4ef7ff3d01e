"""Every shell script of the repository, in whichever folder."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "deployment", "infra", "scripts", "tests")


def _is_script(path: Path) -> bool:
    if not path.is_file() or {"bin", ".terraform"} & set(path.relative_to(ROOT).parts):
        return False
    with path.open("rb") as file:
        return file.readline().startswith((b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh"))


SCRIPTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if _is_script(path))


def test_the_scripts_are_found() -> None:
    """Fails when the scripts have moved and the next test checks nothing."""
    names = {path.name for path in SCRIPTS}
    assert {
        "run",
        "fresh-clone",
        "shutdown_host.sh",
        "install.sh",
        "password.sh",
        "provider.sh",
        "upload_to_s3.sh",
    } <= names


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_passes_shellcheck(script: Path) -> None:
    """Fails when a mistake in a shell script shows only at night, on a machine that nobody watches."""
    done = subprocess.run(["shellcheck", "--severity=style", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
