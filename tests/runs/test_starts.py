"""A run cannot hang at its start: one thread imports, and a run that makes no progress is stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SETTINGS
from processes import CLI, retrain

from benchmarks.starts import report, starts

pytestmark = pytest.mark.slow

IMPORTS = f"""
import atexit, sys, threading

class Watch:
    # What a thread besides the main one imports first. Names that nobody has are looked for in vain, and lock nothing.
    found = []

    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            self.found.append((threading.current_thread().name, name))

sys.meta_path.insert(0, Watch())
atexit.register(lambda: print("IMPORTED", [entry for entry in Watch.found if entry[1] in sys.modules], file=sys.stderr))
{CLI}
"""


@pytest.mark.parametrize("engine", ["sail", "spark"])
def test_one_thread_imports(tmp_path: Path, transactions: Path, engine: str) -> None:
    """Fails when two threads can import at once, and one run of many hangs for ever in Python's import locks."""
    ran = retrain(tmp_path, transactions, "--engine", engine, program=IMPORTS)
    assert ran.exit_code == 0, ran.stderr
    assert ran.json["decision"] == "promoted"
    assert [line for line in ran.stderr.splitlines() if line.startswith("IMPORTED")] == ["IMPORTED []"]


def test_one_thread_imports_where_mlflow_is_a_server(tmp_path: Path, transactions: Path) -> None:
    """Fails when MLflow's late imports for a server happen beside the engine's, and a run hangs."""
    ran = retrain(tmp_path, transactions, "--tracking-uri", "http://127.0.0.1:9", program=IMPORTS)
    assert ran.exit_code == 75, ran.stderr
    assert [line for line in ran.stderr.splitlines() if line.startswith("IMPORTED")] == ["IMPORTED []"]


HANGS = {
    "a lock that nobody releases": "[lock.acquire() for lock in [threading.Lock()] * 2]",
    "C code": "ctypes.CDLL(None).pause()",
    "Python": "[None for _ in iter(int, 1)]",
}
IMPATIENT: dict[str, Any] = {**SETTINGS, "progress_timeout_minutes": 0.05}


def hanging(how: str) -> str:
    """A program whose training never ends."""
    return f"""
import ctypes, threading
import fraud_detection.runs.retrain, fraud_detection.runs.watchdog

def hang(request, progress, watch, complete):
    with watch("train"):
        {how}

fraud_detection.runs.retrain.retrain = hang
{CLI}
"""


@pytest.mark.parametrize("how", HANGS)
def test_a_run_that_hangs_is_ended(tmp_path: Path, how: str) -> None:
    """Fails when a run without progress blocks its machine and schedule until somebody looks."""
    program = hanging(HANGS[how])
    ran = retrain(tmp_path, tmp_path, "--run-name", "r1", program=program, settings=IMPATIENT)
    assert ran.exit_code == 75, ran.stderr
    assert ran.json["exit_code"] == 75
    assert "no progress for 0.05 minute(s) in phase 'train'" in ran.json["error"]
    assert "progress_timeout_minutes" in ran.json["error"]
    assert " in hang\n" in ran.stderr, "the stacks say where"
    outcome = json.loads((tmp_path / "output" / "outcomes" / "r1.json").read_text(encoding="utf-8"))
    assert (outcome["exit_code"], outcome["retry"], outcome["error"]) == (75, True, ran.json["error"])


def test_a_run_is_ended_though_its_interpreter_is_blocked(tmp_path: Path) -> None:
    """Fails when C code that never releases the interpreter keeps the process alive for ever."""
    blocked = (
        "fraud_detection.runs.watchdog._LAST_WORDS_SECONDS = 2; watch._on_phase('train'); ctypes.PyDLL(None).pause()"
    )
    ran = retrain(tmp_path, tmp_path, "--run-name", "r1", program=hanging(blocked), settings=IMPATIENT)
    assert ran.exit_code == 1
    assert " in hang\n" in ran.stderr
    assert not (tmp_path / "output").exists(), "as after a kill: such a run is tried again"


@pytest.mark.proof
def test_a_storage_that_stands_still_too_does_not_keep_the_run(tmp_path: Path) -> None:
    """Fails when an outcome that cannot be written keeps a hanging run alive."""
    program = hanging(
        "fraud_detection.runs.watchdog._LAST_WORDS_SECONDS = 2;"
        " import fraud_detection.runs.outcome as h; h._write = lambda *_: threading.Event().wait();"
        " threading.Event().wait()"
    )
    ran = retrain(tmp_path, tmp_path, "--run-name", "r1", program=program, settings=IMPATIENT)
    assert ran.exit_code == 75, ran.stderr


def test_progress_is_no_standstill(tmp_path: Path) -> None:
    """Fails when a long run is stopped although each of its phases is short enough."""
    program = f"""
import sys, time
from fraud_detection.runs.watchdog import Watchdog
with Watchdog(0.15, lambda error: print(error)) as watchdog:
    for number in range(12):
        watchdog.progress(str(number))
        time.sleep(1)
sys.argv[1:] = ["--version"]
{CLI}
"""
    assert "version" in retrain(tmp_path, tmp_path, program=program).stdout


@pytest.mark.proof
def test_starts_under_load_end_in_time() -> None:
    """Fails when one of a few starts hangs on a busy machine; `make prove` starts three hundred."""
    found = list(starts(count=2, parallel=2, deadline=240.0, load=1))
    assert [entry.exit_code for entry in found] == [0, 0], [entry.error_output for entry in found]
    assert "| 2 | 2 | 0 | 0 |" in "\n".join(report(found, parallel=2, load=1))
