"""The README's commands on a machine with only Python, make and git: `make test`, and CI's fresh clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRA = ("shellcheck", "terraform", "go", "java", "psql", "initdb", "docker", "uv", "ssh", "ps", "yc", "python3.12")
PARTS = {
    ".venv/bin/pytest": "test-library",
    ".venv-airflow/bin/python": "test-dags-fast",
}


def _environment(**changes: str) -> dict[str, str]:
    """This process's environment without the variables of a make that started it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "HANDBOOK_"))}
    return own | changes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile, with installed environments whose programs only record their calls."""
    for name in ("pyproject.toml", "uv.lock", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    for name, part in PARTS.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True)
        noting = f'echo "{part} ${{HANDBOOK_DATA-not handed on}}" >> {tmp_path}/calls'
        program.write_text(f"#!/bin/sh\n{noting}\ntest ! -e {tmp_path}/{part}\n")
        program.chmod(0o755)
        (program.parents[1] / ".synced").touch()
    return tmp_path


def _make_test(project: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "test", "UV=uv", "PYTHON312="]
    settings = _environment(**environment)
    return subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("broken", [[], ["test-library"], ["test-dags-fast"], ["test-library", "test-dags-fast"]])
def test_make_test_runs_every_part_and_fails_at_the_end(broken: list[str], project: Path) -> None:
    """Fails when one failed test keeps the DAGs from being tested, or its exit code is lost."""
    for part in broken:
        (project / part).touch()
    done = _make_test(project)
    calls = [line.split()[0] for line in (project / "calls").read_text().splitlines()]
    assert calls == list(PARTS.values())
    assert (done.returncode != 0) is bool(broken)
    for part in broken:
        assert re.search(rf"^make test: failed:.* {part}\b", done.stderr, flags=re.MULTILINE), done.stderr


def test_a_variable_that_nobody_set_is_not_handed_on_empty(project: Path) -> None:
    """Fails when make passes an unset HANDBOOK_DATA as empty, and tests look for a file without a name."""
    _make_test(project)
    _make_test(project, HANDBOOK_DATA="a file.parquet")
    handed = [line.split(maxsplit=1)[1] for line in (project / "calls").read_text().splitlines()]
    assert handed == ["not handed on"] * 2 + ["a file.parquet"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("required", "code", "summary"), [("", 0, "skipped"), ("1", 1, "error")])
def test_what_a_machine_lacks_is_skipped_unless_it_is_demanded(
    required: str, code: int, summary: str, tmp_path: Path
) -> None:
    """Fails when a newcomer's first `make test` is red, or `make test-extra` is green without running a test."""
    command = [sys.executable, "-m", "pytest", "-m", "needs", "-p", "no:cacheprovider", "tests/test_shell_scripts.py"]
    (tmp_path / "git").symlink_to(shutil.which("git") or "/usr/bin/git")
    environment = _environment(PATH=str(tmp_path), TEST_EXTRA=required)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert summary in done.stdout.splitlines()[-1]
    assert "passed" not in done.stdout.splitlines()[-1]
    assert "shellcheck is not installed (Debian: apt install shellcheck)" in done.stdout


def _fresh_clone(folder: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the repository is not a git clone")
    if not shutil.which("python3.11"):
        pytest.skip("no python3.11 on PATH")
    words = [str(ROOT / ".ci" / "fresh-clone"), str(folder), *command]
    return subprocess.run(words, env=_environment(**environment), capture_output=True, text=True, check=False)


def test_a_fresh_clone_has_python_make_and_git_alone(tmp_path: Path) -> None:
    """Fails when CI tests the README's commands with a program, file or setting that a newcomer lacks."""
    looking = f"for name in {' '.join(EXTRA)}; do command -v $name; done; ls -A $HOME; env"
    settings = {"HANDBOOK_DATA": "x", "YC_TOKEN": "x", "LANG": "C.UTF-8", "UV_INDEX_URL": "kept", "VIRTUAL_ENV": "x"}
    done = _fresh_clone(tmp_path, "bash", "-c", looking, **settings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all("=" in line for line in lines), "these programs, or files in HOME, are there"
    found = dict(line.split("=", 1) for line in lines)
    assert not set(settings) & set(found) - {"UV_INDEX_URL"}
    assert found["UV_INDEX_URL"] == "kept", "the registry could not be reached"
    assert (found["PWD"], found["HOME"]) == (str(tmp_path / "clone"), str(tmp_path / "home"))
    assert _fresh_clone(tmp_path, "bash", "-c", "exit 7").returncode == 7
    tracked = _fresh_clone(tmp_path, "git", "status", "--porcelain", "--ignored")
    assert (tracked.returncode, tracked.stdout) == (0, ""), "files that are not committed came along"
    versions = _fresh_clone(tmp_path, "bash", "-c", "python3.11 -m venv --without-pip ~/v && ~/v/bin/python --version")
    assert versions.stdout.startswith("Python 3.11"), versions.stderr


def test_ci_begins_with_the_commands_of_the_readme() -> None:
    """Fails when a command in the README is not run in a fresh clone before CI installs anything."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## In Yandex Cloud")[0]
    shown = set(re.findall(r"^    make ([a-z-]+)", readme, flags=re.MULTILINE))
    assert {"demo", "up", "test"} <= shown
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").split("apt-get")[0]
    [targets] = re.findall(r'for target in ([a-z -]+); do\n.*\n  \.ci/fresh-clone "\$fresh" make "\$target"', steps)
    assert shown <= set(targets.split())
