"""Names and numbers in the documents agree with the code that they describe."""

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import generate_reference
import generate_terraform_reference
import pytest

from deployment.bucket import CURRENT, SHUTDOWN, code_files, dag_files
from fraud_detection import __version__
from local_stack.components import BY_NAME
from local_stack.seeding import DAYS_OF_NEW_FRAUDS, HISTORY_DAYS

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
FOLDERS = (".", "docs", "docs/decisions", "infra", "infra/modules/*")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md"))
REFERENCE: dict[str, Callable[[], str]] = {**generate_reference.PAGES, **generate_terraform_reference.PAGES}


def _text(name: str) -> str:
    """A page, its lines joined."""
    return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


def _anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _tests(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    """Fails when a command, a setting, a variable or an output changed and its reference did not: `make reference`."""
    assert (ROOT / name).read_text(encoding="utf-8") == REFERENCE[name]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Fails when a page links to a file or a heading that was moved or renamed, and its reader is lost."""
    text = re.sub(r"^ {4}.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(found), f"{target} has no heading #{anchor}"


def test_the_map_shows_every_room() -> None:
    """Fails when a room of the library or a folder is not on the map, and nobody knows what it is for."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in listed.rstrip("\0").split("\0")]
    folders = {file.parts[0] for file in files if len(file.parts) > 1 and file.parts[0][0] not in "."} - {"src"}
    library = Path("src/fraud_detection")
    rooms = {library / file.relative_to(library).parts[0] for file in files if file.is_relative_to(library)}
    wanted = {*folders, *(str(room) for room in rooms if room.name != "__init__.py")}
    assert {place for place in wanted if f"]({place})" not in text and f"]({place}/" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """Fails when a page names a test that was renamed or deleted."""
    known = {name for path in TESTS.rglob("*.py") for name in (*_tests(path), path.stem, path.name)}
    named = re.findall(r"`(?:tests/)?(?:\w+/)*(test_\w+(?:\.py)?)`", page.read_text(encoding="utf-8"))
    assert not set(named) - known


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """The targets that `make help` lists."""
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  ([a-z0-9-]+) +\S", done.stdout, flags=re.MULTILINE))


def _shown_commands(page: Path) -> set[str]:
    """The targets of each `make …` in a page's code: in backquotes, on a line of its own, or as the next step."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`|^ {3,}(?:\$ )?(.*)$", text, flags=re.MULTILINE)
    commands = [
        found for pair in code for found in re.findall(r"(?:^|next: |, |&& )make ((?:[a-z0-9-]+ ?)+)", max(pair))
    ]
    return {target for command in commands for target in command.split()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_make_command_of_a_page_exists_and_is_explained(page: Path, targets: set[str]) -> None:
    """Fails when a page tells its reader to run a target that does not exist, or that `make help` does not list."""
    assert _shown_commands(page) - targets == set()


def test_every_next_command_of_a_message_exists(targets: set[str]) -> None:
    """Fails when an error message tells its reader to run a target that does not exist."""
    names = ["*.py", "*.sh", "*.tf", "Makefile"]
    found = subprocess.run(["git", "grep", "-hE", "make [a-z]", "--", *names], cwd=ROOT, capture_output=True, text=True)
    named = re.findall(r"(?:\brun|\bnext|`|\(): ?make ([a-z0-9-]+)|`make ([a-z0-9-]+)", found.stdout)
    assert len(named) > 50, "the messages are not found"
    assert {target for pair in named for target in pair if target} - targets == set()


def test_every_target_that_is_listed_can_be_made(targets: set[str]) -> None:
    """Fails when a target needs another one that was renamed or deleted."""
    asked: set[str] = set()
    while targets - asked:
        command = ["make", "--dry-run", "--keep-going", *sorted(targets - asked)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        asked |= targets
        targets = {name for names in re.findall(r"for target in ([^;]+);", done.stdout) for name in names.split()}


def test_every_fault_of_the_running_stack_is_in_its_table() -> None:
    """Fails when the page of the local stack does not describe the effect of a tested fault."""
    table = set(
        re.findall(r"^\| .* \| `(test_\w+)` \|$", (ROOT / "docs/local_stack.md").read_text(), flags=re.MULTILINE)
    )
    files = ("test_live_training.py", "test_live_outages.py", "test_live_pause.py")
    assert table == set().union(*(_tests(TESTS / "local_stack" / name) for name in files))


def test_the_stacks_page_counts_right() -> None:
    """Fails when the page of the local stack states other days, objects or memory than there are."""
    text = _text("local_stack.md")
    assert f"{HISTORY_DAYS} days of a simulated bank" in text
    assert f"changed {DAYS_OF_NEW_FRAUDS} days before the first run" in text
    uploaded = [*dag_files(), *code_files(ROOT / "conf" / "retraining.yaml"), "archive", SHUTDOWN, CURRENT]
    assert f" {len(uploaded)} objects uploaded to " in text
    page = (ROOT / "docs" / "local_stack.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z][a-z-]*) \|.*\| (\d+) \|$", page, flags=re.MULTILINE))
    assert set(rows) == {*BY_NAME, "supervisord"}
    assert f"| all | | | **{sum(map(int, rows.values()))}** |" in text


def test_the_newest_version_of_the_changelog_is_the_one_of_the_library() -> None:
    """Fails when a release has no entry in the changelog, and its users cannot see what an upgrade needs."""
    versions = re.findall(
        r"^## \[?(\d+\.\d+\.\d+)\]? - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )
    assert versions[0][0] == __version__
    assert all(re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", date) for _, date in versions)


LOCKED = {"Airflow": "apache-airflow", "MLflow": "mlflow", "Spark": "pyspark", "XGBoost": "xgboost"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_versions_of_a_page_are_the_locked_ones(page: Path) -> None:
    """Fails when a page names another version of Airflow, MLflow, Spark or XGBoost than the one that is tested."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    for name, package in LOCKED.items():
        versions = {each["version"] for each in locked if each["name"] == package}
        named = re.findall(rf"{name} (\d+\.\d+\.\d+)(?: and (\d+\.\d+\.\d+))?", " ".join(page.read_text().split()))
        assert {version for pair in named for version in pair if version} - versions == set(), name
