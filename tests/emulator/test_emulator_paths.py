"""Relative paths are resolved against the working directory of the caller, wherever the work is done."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.emulated_cloud import BUCKET, QUICK, Api, settings

from emulator.client import Emulator, serving, stop, wait_for

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
timing: {QUICK}
jobs: {{runner: stub, stub: {{command: [./job.sh, main.py]}}}}
storage: {{root: my-buckets}}
names: {{buckets: [{BUCKET}]}}
"""


@contextmanager
def served(folder: Path, *options: str, **variables: str) -> Iterator[None]:
    """`python -m emulator serve`, run with `folder` as its working directory."""
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", "serve", "--port", "0", *options],
            cwd=folder,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        )
    try:
        assert wait_for(lambda: "ready: " in log.read_text() or process.poll() is not None, 30), log.read_text()
        assert process.poll() is None, log.read_text()
        yield
    finally:
        stop(process)


def job_of(state: Path) -> tuple[str, str]:
    """Run a job; returns how it ended, and its driver's output."""
    api = Api(Emulator(state))
    cluster = api.create_cluster("relative")
    job_id, operation = api.create_job(cluster.id)
    api.done(operation)
    return api.job_status(cluster.id, job_id), api.emulator.log(job_id)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "variables", "state"),
    [
        (("--state", "my/cloud"), {}, "my/cloud"),
        ((), {}, "data/cloud"),
        ((), {"LOCALCLOUD_STATE": "from/environment"}, "from/environment"),
    ],
    ids=["option", "default", "environment"],
)
def test_a_job_runs_with_a_relative_state_folder(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], state: str
) -> None:
    """Fails when every job fails because the emulator resolves its relative state folder elsewhere."""
    (tmp_path / "settings.yaml").write_text(f"timing: {QUICK}\nnames: {{buckets: [{BUCKET}]}}\n")
    with served(tmp_path, *options, "--config", "settings.yaml", **variables):
        assert job_of(tmp_path / state) == ("DONE", "")


def test_a_job_runs_with_relative_paths_in_the_settings(tmp_path: Path) -> None:
    """Fails when relative paths in the settings are resolved against the job's folder."""
    (tmp_path / "settings.yaml").write_text(CONFIG)
    program = tmp_path / "job.sh"
    program.write_text('#!/bin/sh\necho "ran $1 in $PWD"\n')
    program.chmod(0o755)
    with served(tmp_path, "--state", "cloud", "--config", "settings.yaml"):
        status, log = job_of(tmp_path / "cloud")
        assert (status, log.startswith(f"ran main.py in {tmp_path}/cloud/jobs/")) == ("DONE", True)
    assert list((tmp_path / "my-buckets" / BUCKET).rglob("driveroutput.*"))


def test_the_client_stays_with_its_emulator_wherever_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a test that changes its working directory loses its emulator, or starts another one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with serving(Path("cloud"), settings(storage={"root": "my-buckets"})) as emulator:
        monkeypatch.chdir(elsewhere)
        assert emulator.health()
        assert emulator.state == tmp_path / "cloud"
        assert job_of(emulator.state)[0] == "DONE"
    assert (tmp_path / "my-buckets" / BUCKET).is_dir()
