"""The commands of `docs/emulator.md`, run as written, in an empty folder with relative paths."""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from emulator.client import Emulator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("emulator", "examples", "Makefile", "pyproject.toml", "uv.lock", "scripts/uv_requirements.txt")
ENVIRONMENTS = (".venv", ".venv-airflow")
NEVER_KEPT = ("AIRFLOW_", "LOCALCLOUD_", "GRPC_DEFAULT_SSL", "PYTHONPATH", "MAKE", "MFLAGS")


def blocks(page: Path, heading: str) -> list[str]:
    """The indented blocks of a section, as they would be pasted into a shell."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^    .*\n)+", section, flags=re.M)
    return [re.sub(r"^    ", "", block, flags=re.M) for block in found]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone after `make setup setup-airflow`, with any free port."""
    if missing := [name for name in ENVIRONMENTS if not (ROOT / name / ".synced").exists()]:
        pytest.skip(f"{' and '.join(missing)} not installed; run: make setup setup-airflow")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (0, 0))  # make finds the environments up to date, and leaves these shared ones alone
    for name in (*ENVIRONMENTS, ".uv"):  # the last only where no uv is installed
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    settings = tmp_path / "examples" / "cloud.yaml"
    text = settings.read_text()
    assert "port: 8443" in text
    settings.write_text(text.replace("port: 8443", "port: 0"))
    return tmp_path


def typed(commands: str, folder: Path, deadline: float = 500.0) -> str:
    """The output of the commands. Each must succeed, and none is left running."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NEVER_KEPT)}
    log = folder / "typed.log"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", commands], cwd=folder, env=kept, stdout=output, stderr=output, start_new_session=True
        )
    try:
        exit_code = shell.wait(deadline)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert exit_code == 0, log.read_text()[-5000:]
    return log.read_text()


def test_the_page_s_commands_run_the_examples(clone: Path) -> None:
    """Fails when the commands of the page, run from top to bottom, do not work or leave a cluster behind."""
    with_sdk, with_airflow = blocks(ROOT / "docs" / "emulator.md", "Try it")
    said = typed(with_sdk + with_airflow + "wait  # for what was stopped\n", clone)
    assert "its driver wrote:\ntext 5\nword 5\ncount 4\n" in said
    events = Emulator(clone / "data" / "cloud").events
    for name in ("sdk-example", "airflow-example"):
        statuses = [event["status"] for event in events("cluster", name=name)]
        assert statuses == ["CREATING", "RUNNING", "DELETING", "DELETED"]
    assert [event["exit_code"] for event in events("job", status="DONE")] == [0, 0]
    assert events("emulator")[-1]["status"] == "STOPPED"
    (counts,) = (clone / "data" / "cloud" / "buckets" / "example" / "counts").glob("*.csv")
    assert counts.read_text().startswith("text,5\n")


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("README*.md")), ids=lambda p: p.name)
def test_no_page_assumes_uv(page: Path) -> None:
    """Fails when a documented command needs more than Python and make."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?:^    (?:.*[;&|(] *)?|`)uv [a-z].*", text, flags=re.M) == []
