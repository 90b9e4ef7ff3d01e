"""The revision that a table of results is of."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def revision_of(*paths: str) -> str:
    """The commit, and whether the code below these paths differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", *paths)
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
