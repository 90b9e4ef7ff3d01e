"""Which revision of the code runs: recorded in every decision, outcome, report and MLflow run."""

import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path

REVISION_FILE = "REVISION"
"""Beside this module in an uploaded library (`deployment.bucket.library` writes it); a checkout has none."""
UNKNOWN = "unknown"


@cache
def code_revision() -> str:
    """The Git commit, with `+changes` if the sources differ from it; `unknown` outside of a checkout."""
    uploaded = files("fraud_detection") / REVISION_FILE
    if uploaded.is_file():
        return uploaded.read_text(encoding="utf-8").strip()
    return checkout_revision(Path(__file__).resolve().parents[2])


def checkout_revision(root: Path) -> str:
    """The revision of the sources in a checkout."""
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if not commit:
        return UNKNOWN
    return f"{commit}+changes" if _git(root, "status", "--porcelain", "--", "src") else commit


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
