"""Every failure of a command is one message, one JSON object where it is asked for, and the documented exit code."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fraud_detection.cli import main
from fraud_detection.command_line import Command
from fraud_detection.errors import DataError, is_interruption

HEAVY = ("pandas", "pyarrow", "numpy", "mlflow", "pyspark", "xgboost", "scipy")
FRAUD_DETECTION = (sys.executable, "-c", "from fraud_detection.cli import main; main(prog_name='fraud-detection')")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a settings file and one that is no input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "settings.yaml").touch()
    (tmp_path / "data").mkdir()
    return tmp_path


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def _failing(error: BaseException, *words: str) -> Result:
    def fail(**_: object) -> None:
        raise error

    command = Command("fail", params=[click.Option(["--json", "as_json"], is_flag=True)], callback=fail)
    return CliRunner().invoke(command, words)


WRONG = [
    (("--input", "absent"), 65, "absent does not exist; expected a CSV or Parquet file"),
    (("--input", "settings.yaml/x"), 65, "settings.yaml/x does not exist"),
    (("--input", "data", "--output", "settings.yaml"), 2, "output settings.yaml is a file; expected a folder"),
    (("--input", "data", "--output", "settings.yaml/x"), 1, "cannot be written: "),
    (("--input", "data", "--config", "absent.yaml"), 2, "settings file absent.yaml cannot be read"),
    (("--input", "data", "--as-of", "2999-01-01"), 2, "is in the future; expected: at most "),
    (("--input", "data", "--tracking-uri", "mssql+pymssql://u:s3cr3t@h/d"), 2, "the Python package pymssql"),
    (("--input", "data", "--tracking-uri", "hdfs://h"), 2, "not the address of an MLflow service"),
    (("--input", "hdfs://h/x"), 2, "hdfs://… cannot be opened"),
]


@pytest.mark.parametrize(("words", "exit_code", "text"), WRONG)
def test_a_wrong_option_is_answered_in_one_line_and_as_json(
    here: Path, words: tuple[str, ...], exit_code: int, text: str
) -> None:
    """Fails when a mistyped option ends without JSON or an outcome, or leaves a folder or a database behind."""
    found = _run("retrain", "--config", "settings.yaml", "--output", "out", "--json", "--run-name", "one", *words)
    answer = json.loads(found.stdout)
    assert (found.exit_code, answer["exit_code"]) == (exit_code, exit_code), found.output
    assert text in answer["error"]
    assert found.stderr == f"error       {answer['error']}\n"
    assert "s3cr3t" not in found.output
    made = here / "out" / "outcomes" / "one.json"
    if "--output" not in words:
        assert json.loads(made.read_text(encoding="utf-8"))["error"] == answer["error"]
        made.unlink()
    assert {path.name for path in here.rglob("*") if path.is_file()} == {"settings.yaml"}


def test_a_wrong_option_is_answered_before_anything_large_is_imported(here: Path) -> None:
    """Fails when a mistyped path takes ten seconds to be answered, since MLflow and an engine are imported first."""
    program = (
        "import sys\nfrom fraud_detection.cli import main\nfor words in "
        + repr([words for words, _, _ in WRONG])
        + ":\n"
        "  try:\n    main(['retrain', '--config', 'settings.yaml', '--output', 'out', *words])\n"
        "  except SystemExit as ended:\n    assert ended.code\n"
        f"print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ("retrain",),
        ("retrain", "--inptu", "x"),
        ("retrain", "--input", "x", "--engine", "flink"),
        ("retrian",),
        ("approve", "x"),
        ("rollback", "--to", "one", "--reason", "r"),
        ("create-data", "--days", "none"),
        ("create-data", "--output", "settings.yaml"),
        ("--wrong",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_json_too(here: Path, words: tuple[str, ...]) -> None:
    """Fails when a script that reads JSON gets click's text, because an option was mistyped."""
    found = _run(*words, "--json")
    answer = json.loads(found.stdout)
    assert (found.exit_code, answer["exit_code"]) == (2, 2)
    assert found.stderr == f"error       {answer['error']}\n"
    assert "; see: " in answer["error"]
    assert answer["error"].endswith(" --help")


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (DataError("no"), 65, "no"),
        (KeyError("4929123412341234"), 1, "a defect of the program in test_command_line.py, line "),
        (RecursionError(), 1, "RecursionError"),
        (MemoryError(), 1, "the memory of this machine is used up"),
        (PermissionError(13, "Permission denied", "/srv/x"), 1, "refuses /srv/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "the operating system refuses: No space left on device"),
        (UnicodeDecodeError("utf-8", b"4929", 0, 1, "no"), 1, "UnicodeDecodeError"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.ClickException("no room"), 1, "no room"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_failure_is_an_exit_code_a_line_and_json(error: BaseException, exit_code: int, text: str) -> None:
    """Fails when some failure ends in a stack trace, repeats a value of the data, or prints no JSON."""
    found = _failing(error, "--json")
    answer = json.loads(found.stdout)
    assert (found.exit_code, answer["exit_code"]) == (exit_code, exit_code)
    assert text in answer["error"]
    assert found.stderr == f"error       {answer['error']}\n"
    assert "4929" not in found.output
    debugged = _failing(error, "--debug")
    assert debugged.stdout == ""
    assert "Traceback (most recent call last):" in debugged.stderr
    assert "in fail" in debugged.stderr
    assert "4929" not in debugged.output


def test_a_group_and_a_verb_take_debug(here: Path) -> None:
    """Fails when `--debug` is accepted at one place of the command line only, or shows nothing."""
    wrong = ("retrain", "--config", "settings.yaml", "--input", "absent", "--output", "out")
    for words in (("--debug", *wrong), (*wrong, "--debug")):
        assert "require_input" in _run(*words).stderr
    for verb in main.list_commands(click.Context(main)):
        assert "--debug" in _run(verb, "--help").stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "latin-1", "utf-8"])
def test_a_character_that_the_encoding_lacks_is_replaced(here: Path, encoding: str) -> None:
    """Fails when a terminal or a log in another encoding ends a run because of a `…`, or JSON cannot be read there."""
    name = "данные ≥ 漢字"
    done = _subprocess("retrain", "--config", "settings.yaml", "--input", name, "--json", PYTHONIOENCODING=encoding)
    assert done.returncode == 65, done.stderr
    assert name in json.loads(done.stdout.decode(encoding))["error"]
    assert done.stderr.startswith(b"error       input ")
    assert b"Traceback" not in done.stderr


def test_the_c_locale_ends_no_command(here: Path) -> None:
    """Fails when a cron job, which has no locale, fails at the first character that is not ASCII."""
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = _subprocess("decisions", "--config", "settings.yaml", "--output", "data", **environment)
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False), done.stderr


def test_a_path_that_is_not_text_is_refused(here: Path) -> None:
    """Fails when a path of undecodable bytes, as from an old file system, ends a run only when it writes its report."""
    for option in ("--input", "--output", "--config"):
        words = ("retrain", "--config", "settings.yaml", "--input", "data", "--output", "out", option, b"d\xff")
        done = _subprocess(*words, "--json")
        assert done.returncode == 2, done.stderr
        assert "found bytes that are not UTF-8 text" in json.loads(done.stdout)["error"]


def test_a_closed_output_ends_a_command_quietly(here: Path) -> None:
    """Fails when `fraud-detection … | head -0` or a closed standard output ends in a stack trace."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*FRAUD_DETECTION, "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert b"Traceback" not in done.stderr
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&-', "sh", *FRAUD_DETECTION, "retrain", "--input", "absent", "--json"], check=False
    )
    assert closed.returncode in (2, 65)


def _subprocess(*words: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*FRAUD_DETECTION, *words], capture_output=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("words", [("--help",), ("decisions", "--json")])
def test_an_interrupt_while_the_program_is_loaded_ends_it_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Fails when Ctrl-C in the first tenths of a second shows a stack trace of Python's imports."""
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    interruptible = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also in the background
    )
    program = (
        f"{interruptible}; sys.path.insert(0, {str(tmp_path)!r}); from fraud_detection_command import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    text = "interrupted; next: run the same command again"
    assert (ended.returncode, ended.stderr) == (130, f"error       {text}\n")
    shown = {"error": text, "exit_code": 130} if "--json" in words else None
    assert (json.loads(ended.stdout) if ended.stdout else None) == shown


def test_the_installed_command_is_the_one_that_an_interrupt_cannot_break() -> None:
    """Fails when the command in a user's path loads the program before it can be interrupted."""
    (found,) = entry_points(group="console_scripts", name="fraud-detection")
    assert found.value == "fraud_detection_command:main"


def test_a_chain_of_causes_that_comes_back_to_itself_is_followed_once() -> None:
    """Fails when an error that is its own cause hangs the command instead of being reported."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_interruption(one)
    one.__cause__ = KeyboardInterrupt()
    assert is_interruption(other)
