"""Which code decided: a commit, and whether the sources were those of the commit."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import deployment.revision
import fraud_detection.revision
from deployment.bucket import library
from deployment.paths import ROOT
from fraud_detection.revision import UNKNOWN


def _git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=anna", "-c", "user.email=anna@example.com")
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("room", [fraud_detection.revision, deployment.revision])
def test_a_checkout_is_its_commit_and_says_if_its_sources_differ(tmp_path: Path, room: ModuleType) -> None:
    """Fails when a decision names a commit whose code did not make it, or what is uploaded is called otherwise."""
    revision = room.checkout_revision
    assert revision(tmp_path) == UNKNOWN
    source = tmp_path / "src" / "a.py"
    source.parent.mkdir()
    source.write_text("1\n")
    _git(tmp_path, "init", "-q")
    assert revision(tmp_path) == UNKNOWN  # no commit yet
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not of the program")
    assert revision(tmp_path) == commit
    source.write_text("2\n")
    assert revision(tmp_path) == f"{commit}+changes"


def test_an_uploaded_library_says_the_commit_it_was_made_of(tmp_path: Path) -> None:
    """Fails when a decision made on a cluster does not say which code made it."""
    archive = tmp_path / "fraud_detection.zip"
    archive.write_bytes(library(ROOT / "src"))
    program = "from fraud_detection.revision import code_revision; print(code_revision())"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as content:
        assert found.stdout.strip() == content.read("fraud_detection/REVISION").decode()
    assert found.stdout.strip() == fraud_detection.revision.checkout_revision(ROOT)
