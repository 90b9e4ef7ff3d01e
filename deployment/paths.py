"""Paths of the repository, and atomic writes."""

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHIVE = ROOT / "venvs" / "venv.tar.gz"
ENV_FILE = ROOT / ".env"
VARIABLES = ROOT / "variables.json"
VARIABLES_EXAMPLE = ROOT / "variables.json.example"


def given_path(text: str) -> Path:
    """A path of the command line; an empty one, as a variable that is not set gives, would mean the current folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("found nothing; expected a path. Is a variable not set?")
    return Path(text)


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically; its mode applies from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)  # despite the process's umask, or a leftover of an earlier try
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """A path for messages: relative to the repository if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
