"""The GitHub workflows run existing targets, with the secrets of `make git-push-secrets` and minimal rights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment.paths import ROOT
from utils.push_secrets_to_github_repo import NAMES

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # `on` is a word
    return found


def commands(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_targets_that_exist(path: Path) -> None:
    """Fails when a workflow stops at a make target that does not exist."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in commands(load(path)):
        match = re.fullmatch(r"make ([a-z-]+)", command)
        assert match, f"{command!r} is not a command of a desk"
        assert match[1] in targets, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_ends_by_itself(path: Path) -> None:
    """Fails when a workflow's code can write to the repository, or a stuck job runs for six hours."""
    workflow = load(path)
    rights = workflow["permissions"]
    assert rights.pop("id-token", "write") == "write"
    assert rights == {"contents": "read"}
    assert all(int(job["timeout-minutes"]) <= 90 for job in workflow["jobs"].values())


def test_pull_requests_are_linted_and_tested_and_see_no_secret() -> None:
    """Fails when broken code can be merged untested, or a stranger's pull request can read the key."""
    workflow = load(ROOT / ".github" / "workflows" / "tests.yml")
    assert "pull_request" in workflow["on"]
    assert {"make lint", "make test-all", "make test-infra"} <= set(commands(workflow))
    assert "secrets." not in (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert "id-token" not in workflow["permissions"]


def test_the_deployment_is_of_main_alone_and_reads_the_secrets_that_are_sent() -> None:
    """Fails when an untested commit or a branch is deployed, or the workflow lacks a secret."""
    text = (ROOT / ".github" / "workflows" / "deploy.yml").read_text()
    workflow = load(ROOT / ".github" / "workflows" / "deploy.yml")
    tests = load(ROOT / ".github" / "workflows" / "tests.yml")
    assert workflow["on"] == {
        "workflow_run": {"workflows": [tests["name"]], "types": ["completed"], "branches": ["main"]}
    }
    assert "main" in tests["on"]["push"]["branches"]
    job = workflow["jobs"]["deploy"]
    for part in ("conclusion == 'success'", "event == 'push'", "head_branch == 'main'"):
        assert f"github.event.workflow_run.{part}" in job["if"]
    assert "||" not in job["if"]
    assert job["steps"][0]["with"]["ref"] == "${{ github.event.workflow_run.head_sha }}", "another commit was tested"
    assert set(re.findall(r"secrets\.(\w+)", text)) == set(NAMES)
    assert workflow["permissions"]["id-token"] == "write"
    uploads = [command for command in commands(workflow) if "upload" in command]
    assert uploads[-1] == "make upload-dags-to-bucket", "Airflow could read a DAG before its job is there"


def test_only_the_uploads_see_secrets() -> None:
    """Fails when a package's build or a third-party action can read the bucket's key."""
    workflow = load(ROOT / ".github" / "workflows" / "deploy.yml")
    assert "env" not in workflow
    job = workflow["jobs"]["deploy"]
    assert "env" not in job
    for step in job["steps"]:
        uploads = step.get("run", "").startswith("make upload-")
        assert ("secrets." in str(step)) == uploads, step
        assert set(step.get("env", {})) == (set(NAMES) if uploads else set()), step
