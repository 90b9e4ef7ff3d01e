"""What a user can meet is explained on a page that a person wrote, and what a page shows can be run."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import generate_reference
import pytest

from fraud_detection import errors
from fraud_detection.registry.decision_log import Action
from fraud_detection.schema import AlarmName, Outcome
from fraud_detection.serving.metrics import EVENTS, GAUGES

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "infra", "infra/modules/*")
GENERATED = {"reference_cli.md", "reference_settings.md"}
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md") if page.name not in GENERATED)
EXPLAINING = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog lists names without an explanation."""
STORED = json.loads((ROOT / "tests/runs/stored_names.json").read_text(encoding="utf-8"))
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
PROGRAM = re.compile(r"(?:^|[\s/(=])(fraud-detection|python -m [a-z_.]+|python [a-z_]+/\w+\.py)((?: [^|#;&\n]*)?)")


@cache
def _code(page: Path) -> tuple[str, ...]:
    """The pieces of code of a page: in backquotes, and the lines of its blocks, those that go on joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`|^(?: {4,}|\$ )(.*)$", text, flags=re.MULTILINE)
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    return (*(" ".join(max(pair).split()) for pair in found), *fenced.splitlines())


@cache
def _words() -> frozenset[str]:
    """The names in the code of all pages, dotted ones whole and by their parts."""
    names = {name for page in EXPLAINING for piece in _code(page) for name in re.findall(r"[\w.-]*\w", piece)}
    return frozenset(names | {part for name in names for part in name.split(".")})


def _settings() -> set[str]:
    page = generate_reference.settings_page()
    return set(re.findall(r"^\| `([\w.]+)` \|", page, flags=re.MULTILINE))


def _verbs() -> Iterator[tuple[str, click.Command]]:
    for program, group in generate_reference.PROGRAMS.items():
        yield from ((program, verb) for verb in generate_reference.commands(group))


def test_every_setting_is_explained() -> None:
    """Fails when a setting is only in the generated reference, and its user cannot learn what it is for."""
    settings = _settings()
    assert len(settings) > 100, "the settings are not found"
    assert {name for name in settings if name not in _words() and name.split(".")[-1] not in _words()} == set()


def test_every_name_of_the_environment_file_is_explained() -> None:
    """Fails when `.env` has a setting of the stack or of the deployment that is on no page."""
    names = re.findall(
        r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert len(names) > 15, "the names are not found"
    assert {name for name in names if not name.startswith("AIRFLOW__")} - _words() == set()


def test_every_verb_is_explained() -> None:
    """Fails when a command of the command line, the emulator or the stack has no words of a person."""
    text = "\n".join(piece for page in EXPLAINING for piece in _code(page))
    cli = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for program, verb in _verbs():
        if program == "fraud-detection":
            assert f"\n## `{program} {verb.name}`\n" in cli, verb.name
        elif program == "python -m emulator":
            assert f"{program} {verb.name}" in text, verb.name
        else:  # make calls the stack's verbs; the hidden ones are its components
            assert verb.hidden or f"make {verb.name}" in text, verb.name


def test_every_target_is_explained() -> None:
    """Fails when `make help` lists a target that no page says more about than its one line."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", lines, flags=re.MULTILINE))
    shown = (re.findall(r"\bmake ((?:[a-z0-9-]+ ?)+)", piece) for page in EXPLAINING for piece in _code(page))
    named = {word for found in shown for command in found for word in command.split()}
    assert len(targets) > 40, "the targets are not found"
    assert targets - named == set()


def test_every_name_in_mlflow_is_explained() -> None:
    """Fails when a user finds a metric, a tag, an alias or a file in MLflow that no page explains."""
    stored = {name for kind, names in STORED.items() if kind != "parameters" for name in names}
    modules = {f"fraud_detection.{path.stem}" for path in (ROOT / "src/fraud_detection").iterdir()}
    tags = set(re.findall(r"\"(fraud_detection\.[a-z_]+)\"", SOURCES)) - modules
    assert len(tags) > 10, "the tags are not found"
    assert (stored | tags) - _words() == set()


def test_every_metric_of_the_server_is_explained() -> None:
    """Fails when the server publishes a metric of which nobody can learn what to make an alarm of."""
    assert {*(f"{name}_total" for name in EVENTS), *GAUGES, "requests_total", "request_seconds"} - _words() == set()


def test_every_exit_code_is_explained() -> None:
    """Fails when a command ends with a code that its page does not list, and a scheduler cannot tell what to do."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]
    table = re.findall(r"^\| (\d+) \|", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {int(code) for code in table} == {0, *(kind.exit_code for kind in kinds)}


def test_every_word_of_a_result_is_explained() -> None:
    """Fails when a decision, an alarm or a command of a person appears in the log and on no page."""
    assert {word.value for kind in (Outcome, AlarmName, Action) for word in kind} - _words() == set()


def _shown(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The program and the words of each command of a page; what stands for values (…, UPPER) stays a word."""
    for piece in _code(page):
        for program, rest in PROGRAM.findall(piece):
            try:
                yield program, shlex.split(rest)
            except ValueError:  # a quotation that goes on in the next line
                yield program, rest.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    """Fails when a page shows a verb, an option or a program that was renamed or deleted."""
    verbs = {(program, verb.name): verb for program, verb in _verbs()}
    for program, words in _shown(page):
        if program not in generate_reference.PROGRAMS:
            _require_program(program.removeprefix("python "), words)
        elif words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
            verb = verbs.get((program, words[0]))
            assert verb is not None, f"{program} {words[0]}"
            options = {name for option in verb.params for name in (*option.opts, *option.secondary_opts)}
            given = {word.split("=")[0] for word in words[1:] if re.match(r"--[a-z]", word)}
            assert given - options - {"--help", "--debug"} == set(), f"{program} {words[0]}"


def _require_program(name: str, words: list[str]) -> None:
    """A module or a script, and its options as words of its source."""
    if not name.startswith("-m "):
        source = ROOT / name
    elif name.split()[1].split(".")[0] in {path.name for path in ROOT.iterdir() if path.is_dir()}:
        spec = importlib.util.find_spec(name.split()[1])
        assert spec is not None, f"python {name}"
        source = Path(str(spec.origin))
    else:
        return  # a program of another package
    text = source.read_text(encoding="utf-8")
    text += source.with_name("__main__.py").read_text(encoding="utf-8") if source.name == "__init__.py" else ""
    folder = "".join(path.read_text(encoding="utf-8") for path in source.parent.glob("*.py"))
    for word in words:
        option = word.split("=")[0]
        assert not re.match(r"--[a-z]", option) or option in text + folder, f"python {name} {option}"


def _symptoms() -> list[str]:
    """The first column of the runbook's tables."""
    page = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    return [row.split(" | ")[0] for row in page.splitlines() if row.startswith("| ") and " | " in row]


def test_every_notification_and_exit_code_has_a_row_in_the_runbook() -> None:
    """Fails when a person is called at night by a message or a code of which the runbook says nothing."""
    symptoms = _symptoms()
    text = "\n".join(symptoms)
    dags = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "dags").rglob("*.py")))
    tasks = re.findall(r"task_id=\"(\w+)\"|^    @task\((?:\n.*?)*?^    def (\w+)", dags, flags=re.MULTILINE)
    told = re.findall(r"^_TOLD = \((.*)\)$", dags, flags=re.MULTILINE)
    kinds = {*(max(pair) for pair in tasks), *AlarmName, *re.findall(r"\"(\w+)\"", told[0])}
    assert len(kinds) >= 11, "the tasks or the decisions that are told are not found"
    assert {kind for kind in kinds if f"`{kind}" not in text} == set()
    skipped = {path.stem for path in (ROOT / "dags").rglob("*.py") if '"announce": not' in path.read_text()}
    assert skipped == {"gate", "spending"}, "another notification of skipped runs: give it a row in docs/runbook.md"
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert {int(found[1]) for row in symptoms if (found := re.match(r"\| (\d+)\b", row))} == {0, *codes}


def test_every_message_that_the_runbook_quotes_is_sent() -> None:
    """Fails when a message was reworded, and its row in the runbook cannot be found by it."""
    folders = ("src", "dags")
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    sent = re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(sources))
    quoted = [text for row in _symptoms() for text in re.findall(r"`([^`]+)`", row) if " " in text]
    pieces = {
        piece.strip()
        for text in quoted
        if "of 40" not in text and not text.startswith("yc ")
        for piece in text.split("…")
    }
    assert len(pieces) > 12, "the messages are not found"
    assert {piece for piece in pieces if piece not in sent} == set()
