"""Paths that the deployment's commands are given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("bucket", ("upload", "data", "--data")),
        ("bucket", ("download-output", "--folder")),
        ("bucket", ("--env",)),
        ("environment", ("--variables",)),
        ("runs", ("pause", "--env")),
        ("variables", ("--file",)),
        ("archive", ("--output",)),
        ("inspection", ()),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_empty_path_is_refused(module: str, words: tuple[str, ...], empty: str, tmp_path: Path) -> None:
    """Fails when `--data "$DATA"`, with DATA not set, uploads the current folder, .env and all, to the bucket."""
    command = [sys.executable, "-m", f"deployment.{module}", *words, empty]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "found nothing; expected a path" in done.stderr
    assert list(tmp_path.iterdir()) == []
