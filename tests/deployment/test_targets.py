"""The Makefile's cloud targets: what they ask of yc and ssh, and what they report where these are missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment import remote
from deployment.errors import DeploymentError
from deployment.paths import ROOT


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def deploy_full(tmp_path: Path) -> Callable[[str], tuple[int, list[str]]]:
    """Run `make deploy-full` with programs that only log their arguments; the step that has the given words fails.

    Returns the exit code and the steps that were started.
    """
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("pyproject.toml", "uv.lock", ".venv-cloud/.synced"):  # the cloud's tools are installed
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(failing: str) -> tuple[int, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        for name in ("bin/python", "bin/terraform", "scripts/create_venv_archive.sh", "scripts/upload_to_s3.sh"):
            step = name.removeprefix("bin/").removeprefix("scripts/")
            fails = f'case "$step" in *"{failing}"*) exit 1;; esac'
            text = f'step="{step} $*"; echo "$step" >> {log}; {fails}; echo "{{}}"'
            program((tmp_path / name).parent, Path(name).name, text)
        given = {"CLOUD": f"{tmp_path}/bin/", "TERRAFORM": f"{tmp_path}/bin/terraform", "UV": "uv-is-not-needed"}
        command = ["make", "deploy-full", *(f"{name}={value}" for name, value in given.items())]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, log.read_text().splitlines()

    return run


def test_a_deployment_checks_the_settings_first_and_uploads_the_dags_last(
    deploy_full: Callable[[str], tuple[int, list[str]]],
) -> None:
    """Fails when a missing password stops `make deploy-full` after minutes of uploads, or a DAG has no job."""
    code, steps = deploy_full("no step fails")
    assert code == 0, steps
    check = steps.index("python -m deployment.variables --check")
    uploads = [number for number, step in enumerate(steps) if step.startswith("upload_to_s3.sh")]
    assert check < min(uploads)
    assert {steps[number].split()[1] for number in uploads} == {"data", "venv", "src", "dags"}
    assert steps[-2:] == ["upload_to_s3.sh dags", "python -m deployment.variables --silences"]
    assert "python -m deployment.variables" in steps, "the variables are not loaded"
    assert steps.index("create_venv_archive.sh ") < steps.index("upload_to_s3.sh venv")


@pytest.mark.parametrize(
    "failing",
    ["terraform", "deployment.environment", "variables --check", "upload_to_s3.sh src", "create_venv_archive.sh"],
)
def test_a_failed_step_ends_the_deployment(failing: str, deploy_full: Callable[[str], tuple[int, list[str]]]) -> None:
    """Fails when `make deploy-full` goes on after a failed step, and the cloud gets DAGs without what they need."""
    code, steps = deploy_full(failing)
    assert code != 0
    assert failing in steps[-1]


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("instances", "compute instance list --folder-id b1g1"),
        ("airflow", "logging read --group-id e231 --follow"),
    ],
)
def test_yc_is_asked_about_this_folder_and_its_exit_code_is_kept(what: str, asked: str, tmp_path: Path) -> None:
    """Fails when machines of another folder are listed, or a failed yc looks like an empty list."""
    program(tmp_path / "bin", "yc", 'echo "asked: $*"; exit 3')
    (tmp_path / ".env").write_text("FOLDER_ID=b1g1\nAIRFLOW_LOG_GROUP_ID=e231\n")
    command = [sys.executable, "-m", "deployment.watch", what, "--env", str(tmp_path / ".env")]
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, f"asked: {asked}\n")
    (tmp_path / "bin" / "yc").unlink()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "yc is not installed; see https://yandex.cloud/docs/cli/quickstart" in done.stderr


@pytest.fixture
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for another machine's home; the fake ssh runs its command there."""
    home = tmp_path / "home"
    home.mkdir()
    text = f'[ "$1" = me@host ] || exit 255; cd {home} && exec sh -c "$2"'
    program(tmp_path / "bin", "ssh", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return home


def test_the_repository_is_copied_without_secrets_and_data(other_machine: Path) -> None:
    """Fails when .env, an environment or data are copied to another machine with the sources."""
    files = remote.repository_files()
    remote.send(files, ROOT, "me@host", "a folder/fraud", private=False)
    there = other_machine / "a folder" / "fraud"
    assert (there / "Makefile").read_bytes() == (ROOT / "Makefile").read_bytes()
    assert os.access(there / "scripts" / "upload_to_s3.sh", os.X_OK)
    found = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert found == {path.relative_to(ROOT).as_posix() for path in files}
    assert not [name for name in found if name == ".env" or name.startswith((".venv", "data/", ".git/"))]


def test_settings_are_copied_for_their_owner_alone(
    other_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when other users of the remote machine can read the passwords in .env."""
    root = tmp_path / "desk"
    root.mkdir()
    monkeypatch.setattr(remote, "ENV_FILE", root / ".env")
    monkeypatch.setattr(remote, "VARIABLES", root / "variables.json")
    with pytest.raises(DeploymentError, match="make env"):
        remote.settings_files()
    (root / ".env").write_text("A=1\n")
    (root / "variables.json").write_text("{}")
    remote.send(remote.settings_files(), root, "me@host", "fraud", private=True)
    assert (other_machine / "fraud" / ".env").read_text() == "A=1\n"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (other_machine / "fraud").iterdir()}
    assert modes == {".env": 0o600, "variables.json": 0o600}


@pytest.mark.parametrize(
    ("host", "said"), [("", "expected HOST="), ("-oProxyCommand=x", "expected HOST="), ("x", "255")]
)
def test_a_host_that_is_none_or_refuses_fails_loudly(host: str, said: str, other_machine: Path) -> None:
    """Fails when a failed copy looks successful, or a host name can carry an option of ssh."""
    with pytest.raises(DeploymentError, match=said):
        remote.send([ROOT / "LICENSE"], ROOT, host, "fraud", private=False)


@pytest.mark.parametrize(("protected", "code", "asked"), [("true", 2, False), ("false", 0, True), ("", 0, True)])
def test_make_destroy_refuses_before_anything_is_destroyed(
    protected: str, code: int, asked: bool, tmp_path: Path
) -> None:
    """Fails when `make destroy` deletes machines and keys before the cloud refuses the rest."""
    output = f"printf %s '{protected}'; [ -n '{protected}' ]"
    program(tmp_path / "bin", "terraform", f'echo "$*" >> {tmp_path}/calls; case "$*" in *output*) {output};; esac')
    command = ["make", "destroy", f"TERRAFORM={tmp_path / 'bin' / 'terraform'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("-chdir=infra destroy" in (tmp_path / "calls").read_text().splitlines()) is asked
    assert ("set deletion_protection = false in infra/terraform.tfvars" in done.stdout) is not asked


def test_make_env_names_terraforms_install_page_where_it_is_missing(tmp_path: Path) -> None:
    """Fails when a newcomer without Terraform sees only `command not found`."""
    tools = Path(sys.executable).parent
    make = shutil.which("make")
    assert make
    command = [make, "env", "TERRAFORM=terraform-is-not-here", "CLOUD=" + str(tools) + "/", "-o", "cloud-tools"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    output = done.stdout + done.stderr
    assert "is not installed" in output
    assert "https://developer.hashicorp.com/terraform/install" in output
