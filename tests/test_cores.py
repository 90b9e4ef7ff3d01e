"""How many cores a process may use."""

import os
from pathlib import Path

import pytest

from fraud_detection.cores import usable_cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)]
)
def test_usable_cores_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    """Fails when training in a container starts more threads than it has cores, and takes many times as long."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: quota)
    assert usable_cores() == cores
