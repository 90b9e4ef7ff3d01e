"""What the stack's commands show to people."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


class Progress:
    """One line for each step, with how long it took; a terminal sees it begin as well."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._is_terminal = sys.stdout.isatty()

    @contextmanager
    def step(self, name: str) -> Iterator["Line"]:
        """A step whose line is completed by what the block tells."""
        start, line = time.monotonic(), Line()
        if self._is_terminal:
            click.echo(f"{name:<15}…\r", nl=False)
        yield line
        self.tell(name, f"{line.text} ({time.monotonic() - start:.1f} s)")

    def tell(self, name: str, text: str) -> None:
        click.echo(f"{click.style(f'{name:<15}', fg='cyan')}{text}")
        sys.stdout.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


class Line:
    """What a step has to say at its end."""

    text = "done"


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not path.exists():
        return "    (there is no log yet)"
    text = path.read_bytes()[-200_000:].decode("utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
