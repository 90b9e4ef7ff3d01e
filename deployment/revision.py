"""Which revision of the sources is uploaded."""

import subprocess
from pathlib import Path

UNKNOWN = "unknown"


def checkout_revision(root: Path) -> str:
    """The Git commit of a checkout, with `+changes` if its sources differ from it; `unknown` outside of one."""
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
