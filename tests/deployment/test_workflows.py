"""The GitHub workflows run existing targets, with the secrets of `make git-push-secrets` and minimal rights."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from deployment.paths import ROOT
from utils.push_secrets_to_github_repo import ENVIRONMENT, NAMES

TESTS, DEPLOY = (ROOT / ".github" / "workflows" / name for name in ("tests.yml", "deploy.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

CHECK = re.compile(r"bin/(pytest|ruff|mypy|lint-imports|checkov)|-m pytest")


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # `on` is a word
    return found


def commands(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_targets_that_exist(path: Path) -> None:
    """Fails when a workflow stops at a make target that does not exist."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in commands(load(path)):
        match = re.fullmatch(r"make ([a-z0-9-]+)", command)
        assert match, f"{command!r} is not a command that a developer can run"
        assert match[1] in targets, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_ends_by_itself(path: Path) -> None:
    """Fails when a workflow's code can write to the repository, or a stuck job runs for six hours."""
    workflow = load(path)
    for job in workflow["jobs"].values():
        rights = dict(job.get("permissions", workflow["permissions"]))
        assert rights.pop("id-token", "write") == "write"
        assert rights == {"contents": "read"}
    assert all(int(job["timeout-minutes"]) <= 90 for job in workflow["jobs"].values())


def checks(*targets: str) -> set[str]:
    """The commands of these targets, and of those that they run in turn, that check something."""
    command = ["make", "--dry-run", *targets, "PYTHON312=python3.12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {line for line in done.stdout.splitlines() if CHECK.search(line)}
    return found.union(*(checks(*names.split()) for names in re.findall(r"for target in ([^;]+);", done.stdout)))


def test_every_check_of_the_makefile_runs_on_a_pull_request() -> None:
    """Fails when broken code can be merged, because a ring of tests or the lint is not run on pull requests."""
    workflow = load(TESTS)
    assert "pull_request" in workflow["on"]
    tests = re.findall(r"^(test[a-z0-9-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    needed = checks("lint", *set(tests) - {"test-cloud"})  # its tests are some of those of make test and make test-slow
    assert len(needed) > 8, "the Makefile's checks are not found"
    ran = checks(*(command.removeprefix("make ") for command in commands(workflow)))
    assert needed - ran == set()


def test_a_pull_request_sees_no_secret() -> None:
    """Fails when a stranger's pull request can read the bucket's key, or use the repository's identity."""
    workflow = load(TESTS)
    assert "pull_request_target" not in workflow["on"]
    assert "secrets" not in str(workflow)
    assert "id-token" not in workflow["permissions"]
    assert not any("permissions" in job for job in workflow["jobs"].values())


def holds(condition: str, **run: str) -> bool:
    """Whether a workflow's condition holds after a run of the tests with these properties."""
    expression = condition.replace("&&", " and ").replace("||", " or ").replace("\n", " ")
    event = SimpleNamespace(event=SimpleNamespace(workflow_run=SimpleNamespace(**run)))
    return bool(eval(expression, {"__builtins__": {}, "github": event}))  # noqa: S307  (the repository's own text)


def test_only_tested_commits_of_main_are_deployed() -> None:
    """Fails when an untested commit, a branch or a pull request's code reaches the cloud."""
    workflow, tests = load(DEPLOY), load(TESTS)
    assert set(workflow["on"]) == {"workflow_run"}
    assert workflow["on"]["workflow_run"]["workflows"] == [tests["name"]]
    assert "main" in tests["on"]["push"]["branches"], "a push to main would never be deployed"
    good = {"conclusion": "success", "event": "push", "head_branch": "main"}
    others = ({"conclusion": "failure"}, {"conclusion": "cancelled"}, {"event": "pull_request"}, {"head_branch": "x"})
    for job in workflow["jobs"].values():
        assert holds(job["if"], **good)
        assert not [other for other in others if holds(job["if"], **{**good, **other})]
        sources = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step["with"]["ref"] for step in sources] == ["${{ github.event.workflow_run.head_sha }}"]
        assert [step["with"]["persist-credentials"] for step in sources] == ["false"]


def test_the_dags_are_deployed_last() -> None:
    """Fails when Airflow can read a DAG before its job and its packages are uploaded."""
    uploads = [command for command in commands(load(DEPLOY)) if "upload" in command]
    assert set(uploads) == {f"make upload-{what}-to-bucket" for what in ("venv", "src", "dags")}
    assert uploads[-1] == "make upload-dags-to-bucket"


def test_only_the_uploads_see_secrets() -> None:
    """Fails when a package's build or a third-party action can read the bucket's key, or an upload lacks it."""
    workflow = load(DEPLOY)
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in NAMES}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    uploads = [step for step in steps if step.get("run", "").startswith("make upload-")]
    assert [step for step in uploads if step.pop("env") != secrets] == []
    assert "secrets" not in str(workflow), "beside the environment of an upload"
    assert workflow["permissions"] == {}
    [job] = workflow["jobs"].values()
    assert job["permissions"]["id-token"] == "write", "uploads without a static key need the identity"
    assert job["environment"] == ENVIRONMENT, "the secrets are the environment's"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_their_commit(path: Path) -> None:
    """Fails when the owner of an action, or who took over their account, can change what a workflow runs."""
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_leaves_no_token_behind(path: Path) -> None:
    """Fails when a package's build finds the workflow's token in .git/config."""
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_everything_that_is_pinned_is_updated() -> None:
    """Fails when a pinned action, package or provider keeps its holes because nobody is told of a newer one."""
    found = load(ROOT / ".github" / "dependabot.yml")["updates"]
    covered = {(entry["package-ecosystem"], entry["directory"]) for entry in found}
    assert covered == {
        ("github-actions", "/"),
        ("uv", "/"),
        ("uv", "/infra/tests"),
        ("gomod", "/infra/tests/tools"),
        ("terraform", "/infra"),
    }
    for kind, directory in covered - {("github-actions", "/")}:
        name = {"uv": "uv.lock", "gomod": "go.mod", "terraform": "versions.tf"}[kind]
        assert (ROOT / directory.strip("/") / name).exists(), directory
