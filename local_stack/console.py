"""Human-readable output of the stack's commands."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


class Progress:
    """One line for each step, with how long it took; a terminal also shows its start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._is_terminal = sys.stdout.isatty()

    @contextmanager
    def step(self, name: str) -> Iterator["Line"]:
        """A step whose line shows the text that the block sets."""
        start, line = time.monotonic(), Line()
        if self._is_terminal:
            click.echo(f"{name:<15}…\r", nl=False)
        yield line
        self.report(name, f"{line.text} ({time.monotonic() - start:.1f} s)")

    def report(self, name: str, text: str) -> None:
        click.echo(f"{click.style(f'{name:<15}', fg='cyan')}{text}")
        sys.stdout.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


class Line:
    """The text of a step, shown at its end."""

    text = "done"


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not path.exists():
        return "    (no log yet)"
    text = path.read_bytes()[-200_000:].decode("utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
