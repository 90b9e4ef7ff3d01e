"""`python -m local_stack VERB`: the whole system on this machine. `make up` and its like call it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deployment.errors import DeploymentError
from emulator.options import GivenPath
from local_stack import components, runs, seeding, starting, stopping
from local_stack.console import tail
from local_stack.settings import Stack, StackError, load, saved
from local_stack.upkeep import keep_up

F = TypeVar("F", bound=Callable[..., Any])


def _env(function: F) -> F:
    return click.option(
        "--env",
        type=GivenPath(dir_okay=False, path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="Settings of the stack (.env.example).",
    )(function)


def _folder(function: F) -> F:
    return click.option("--folder", type=GivenPath(file_okay=False, path_type=Path), required=True)(function)


class _Group(click.Group):
    """Shows expected errors as they are, without a stack trace."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except DeploymentError as error:
            raise click.ClickException(str(error)) from error


def _running(env: Path) -> Stack:
    """The stack as it was started last: `.env` may have changed since."""
    stack = load(env)
    return saved(stack.folder) or stack


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The local stack: the whole system on this machine, under supervisord."""


@main.command()
@_env
@click.option("--first-run/--no-first-run", default=True, help="Train the first champion and wait for it.")
def up(env: Path, first_run: bool) -> None:
    """Start the components that are not running, and wait until all are ready."""
    starting.up(load(env), first_run=first_run)


@main.command()
@_env
@click.option("--wait", is_flag=True, help="Let the current run end first (at most 15 minutes).")
def down(env: Path, wait: bool) -> None:
    """Stop everything, also a running job; the data is kept."""
    stopping.down(_running(env), wait=wait)


@main.command("clear-run")
@_env
def clear_run(env: Path) -> None:
    """Retry the last failed run of the training."""
    click.echo(f"run {runs.clear(_running(env))} is running again; next: make status")


@main.command()
@_env
def status(env: Path) -> None:
    """Show each component's state, address and memory."""
    for line in stopping.status(_running(env)):
        click.echo(line)


@main.command()
@_env
@click.option("--component", help="Only this component; job: the driver of the last job.")
@click.option("--lines", type=int, default=20, show_default=True, help="Lines of each log.")
@click.option("--follow", is_flag=True, help="Follow the logs.")
def logs(env: Path, component: str | None, lines: int, follow: bool) -> None:
    """Show the last lines of the logs."""
    stack = _running(env)
    files = stopping.logs(stack, component or None)
    for path in files:
        click.echo(click.style(f"== {stack.shown(path)}", bold=True))
        click.echo(tail(path, lines))
    ends = {path: path.stat().st_size if path.exists() else 0 for path in files}
    while follow:
        time.sleep(0.5)
        for path in files:
            ends[path] = _show_new(path, ends[path], several=len(files) > 1)


def _show_new(path: Path, shown: int, *, several: bool) -> int:
    """Show new lines of a log; returns how many bytes are shown now."""
    size = path.stat().st_size if path.exists() else 0
    if size < shown:
        shown = 0  # it was rotated
    if size == shown:
        return shown
    with path.open("rb") as file:
        file.seek(shown)
        new = file.read(size - shown).decode("utf-8", errors="replace")
    for line in new.splitlines():
        click.echo(f"{path.stem:<14} {line}" if several else line)
    return size


@main.command("start-component", hidden=True)
@click.argument("name", type=click.Choice(list(components.BY_NAME)))
@_folder
def start_component(name: str, folder: Path) -> None:
    """Become a component (supervisord calls this)."""
    stack = saved(folder)
    if stack is None:
        raise StackError(f"{folder} contains no stack; next: make up")
    sys.stdout.flush()
    components.start_here(stack, name)


@main.command(hidden=True)
@_folder
def feed(folder: Path) -> None:
    """Write each simulated hour as soon as it is over (supervisord calls this)."""
    seeding.feed_forever(folder)


@main.command(hidden=True)
@_folder
def upkeep(folder: Path) -> None:
    """Restart what hangs, and drop what is older than KEEP_DAYS (supervisord calls this)."""
    stack = saved(folder)
    if stack is None:
        raise StackError(f"{folder} contains no stack; next: make up")
    keep_up(stack)
