"""Runs the job as its own process, for tests of hangs, proxies and imports."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import AS_OF, SETTINGS, CommandResult

CLI = "from fraud_detection.cli import main; main()"


def settings_file(folder: Path, settings: Mapping[str, Any] = SETTINGS) -> Path:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    return path


def retrain(
    folder: Path,
    transactions: Path,
    *options: str,
    program: str = CLI,
    settings: Mapping[str, Any] = SETTINGS,
    environment: Mapping[str, str] | None = None,
    deadline: float = 900.0,
) -> CommandResult:
    """One run in `folder`. At the deadline its threads' stacks are printed, it is killed, and the test fails."""
    given = ["--config", str(settings_file(folder, settings)), "--input", str(transactions)]
    given += ["--output", str(folder / "output"), "--as-of", AS_OF.isoformat(), "--json", *options]
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program, "retrain", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | dict(environment or {}),
    )
    try:
        stdout, stderr = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        _, stderr = process.communicate()
        raise AssertionError(f"the run hung for {deadline:.0f} s:\n{stderr[-5000:]}") from None
    return CommandResult(process.returncode, stdout, stderr)
