"""The server of scores as a component: what it waits for, and what people are shown of it."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local_stack import components, mlflow, serving
from local_stack.settings import PORTS, Stack, StackError, load, saved


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    env = tmp_path / ".env"
    env.write_text(f"STACK_FOLDER={tmp_path / 'stack'}\n")
    return load(env)


def test_it_starts_when_there_is_a_champion(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the server is restarted for ever before the first promotion, or gives up while MLflow starts."""
    answers = iter([StackError("MLflow cannot be asked"), None, None, "1"])

    def champion(*_: object) -> str | None:
        answer = next(answers)
        if isinstance(answer, StackError):
            raise answer
        return answer

    monkeypatch.setattr(mlflow, "champion", champion)
    monkeypatch.setattr(serving, "_POLL", 0.0)
    before = components.BY_NAME["serving"].launch(stack).before
    assert before is not None
    before()
    assert next(answers, "asked until there was one") == "asked until there was one"


def test_without_a_champion_it_is_ready_and_says_what_it_waits_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when `make up` waits for a server that can only start after the first run, or shows its address as if
    it answered; or when a server that does not start though there is a champion counts as ready.
    """
    monkeypatch.setattr(serving, "is_up", lambda _: False)
    monkeypatch.setattr(mlflow, "champion", lambda *_: None)
    assert serving.is_ready(stack)
    assert components.BY_NAME["serving"].url(stack) == "http://127.0.0.1:8000 waits for a champion"
    monkeypatch.setattr(mlflow, "champion", lambda *_: "1")
    assert not serving.is_ready(stack)


def test_it_reads_the_store_that_the_jobs_feed(stack: Stack) -> None:
    """Fails when the server builds a store of its own beside that of the jobs, and does not learn what they read."""
    words = serving.command(stack)
    given = dict(zip(words[2::2], words[3::2], strict=True))
    bucket = stack.buckets.as_uri()
    for option, key in {"--input": "input_data", "--output": "output_data", "--store": "store"}.items():
        assert given[option] == f"{bucket}/fraud-detection/{key}", "what the emulator makes of s3a://fraud-detection/…"


def test_the_example_is_one_line_for_a_shell(stack: Stack) -> None:
    """Fails when the command that `make up` prints breaks in a shell, or has a transaction that is too old to score."""
    line = serving.example(stack, datetime(2026, 3, 1, 10, tzinfo=UTC))
    assert "\n" not in line
    words = shlex.split(line)
    assert f"{stack.serving_url}/v1/score" in words
    assert json.loads(words[-1])["transaction_time"] == "2026-03-01T10:00:00+00:00"


def test_a_stack_of_an_earlier_release_has_all_ports(stack: Stack) -> None:
    """Fails when `make status` or `make down` ends in a KeyError right after an upgrade."""
    older = load(stack.folder / "absent")
    del older.ports["SERVING_PORT"]
    Stack(**{**vars(older), "folder": stack.folder}).save()
    found = saved(stack.folder)
    assert found is not None
    assert set(found.ports) == set(PORTS)
