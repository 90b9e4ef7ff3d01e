"""Commands of which every failure is one message, one JSON object where it is asked for, and an exit code.

Python's own stack trace is never shown: it repeats values of the data. `--debug` shows one without values.
"""

import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NoReturn

import click

from fraud_detection.errors import FraudDetectionError, InterruptedRunError, is_interruption
from fraud_detection.masking import mask
from fraud_detection.shapes import library_text, stack_trace

_JSON, _DEBUG = "--json", "--debug"


class _Reporting:
    """What commands and groups share."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  (click decides the types)
        super().__init__(*arguments, **options)
        self.params: list[click.Parameter]
        self.params.append(debug_option())

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401  (click decides the types)
    ) -> Any:  # noqa: ANN401
        """Run the command and end the process with its exit code; without `standalone_mode` raise, as click does."""
        words = list(sys.argv[1:] if args is None else args)
        run: Callable[..., Any] = super().main  # type: ignore[misc]
        if not standalone_mode:
            return run(words, prog_name, complete_var, standalone_mode=False, **extra)
        replace_missing_characters()
        try:
            code = run(words, prog_name, complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (whatever it is: Python would show its values)
            _fail(error, as_json=_JSON in words, debug=_DEBUG in words)
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:  # noqa: ANN401
        with _masked_usage():
            return super().make_context(*arguments, **extra)  # type: ignore[misc,no-any-return]

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401
        with _masked_usage():
            return super().invoke(context)  # type: ignore[misc]


class Command(_Reporting, click.Command):
    """A command that reports its failures."""


class Group(_Reporting, click.Group):
    """A group that reports the failures of its commands. Those of other packages are imported when they are used."""

    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self._others: dict[str, EntryPoint] = {}

    def add_entry_points(self, group: str) -> None:
        """Add the commands that installed packages register under this name."""
        self._others |= {found.name: found for found in entry_points(group=group)}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self._others})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self._others and name not in self.commands:
            command = self._others[name].load()
            command.params.append(debug_option())
            self.add_command(command, name)
        return super().get_command(context, name)


class Given(click.ParamType[Any]):
    """Text that says something: an empty one, as a variable that is not set gives, is refused."""

    def __init__(self, name: str, expected: str, kind: type[str | Path] = str) -> None:
        self.name = name
        self._expected = expected
        self._kind = kind

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:  # noqa: ANN401
        text = str(value)
        if not text.strip():
            self.fail(f"found nothing; expected {self._expected}. Is a variable not set?", parameter, context)
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" or character == "\0" for character in text):
            self.fail(f"found bytes that are not UTF-8 text; expected {self._expected}", parameter, context)
        return self._kind(value)


def debug_option() -> click.Option:
    """`--debug`; it is read from the command line itself, since it also counts where that cannot be parsed."""
    return click.Option(
        [_DEBUG], is_flag=True, expose_value=False, help="Show the stack trace of an error, without values of the data."
    )


def replace_missing_characters() -> None:
    """Let a terminal or a log whose encoding lacks a character get `?` in its place, rather than an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def print_json(text: str) -> None:
    """Print a JSON text on standard output; what its encoding cannot carry is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    click.echo(text)


def show_error(error: FraudDetectionError, *, as_json: bool) -> None:
    """Print what stops a command on standard error, and as one JSON object on standard output where it is asked for."""
    if as_json:
        print_json(json.dumps({"error": str(error), "exit_code": error.exit_code}))
    click.echo(f"{click.style('error', fg='red', bold=True)}       {error}", err=True)


def _fail(error: BaseException, *, as_json: bool, debug: bool) -> NoReturn:
    shown = _shown(error)
    with suppress(OSError):  # nobody reads on
        if debug:
            click.echo(stack_trace(error), err=True, nl=False)
        show_error(shown, as_json=as_json)
    sys.exit(shown.exit_code)


def _shown(error: BaseException) -> FraudDetectionError:
    """The error as the user sees it."""
    if is_interruption(error) or isinstance(error, click.Abort):
        return InterruptedRunError()
    if isinstance(error, FraudDetectionError):
        return error
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "fraud-detection"
        return _OtherError(
            f"{' '.join(error.format_message().split()).rstrip('.')}; see: {path} --help", error.exit_code
        )
    if isinstance(error, click.ClickException):
        return _OtherError(error.format_message(), error.exit_code)
    if isinstance(error, MemoryError):
        return _OtherError("the memory of this machine is used up; give it more, or fewer transactions")
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename is not None else ""
        return _OtherError(f"the operating system refuses{where}: {error.strerror}; correct that, then run this again")
    return _OtherError(
        f"a defect of the program{_place(error)}: {type(error).__name__}: {library_text(str(error))}; next: report it,"
        f" with what the same command prints with {_DEBUG}"
    )


class _OtherError(FraudDetectionError):
    """Of click, of Python, or a defect."""

    def __init__(self, message: str, exit_code: int = FraudDetectionError.exit_code) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


@contextmanager
def _masked_usage() -> Iterator[None]:
    """Hide passwords in what click says of wrong arguments, since it repeats them; and let it catch no Ctrl-C."""
    try:
        yield
    except click.ClickException as error:
        error.message = mask(error.message)  # type: ignore[misc]
        raise
    except KeyboardInterrupt as error:
        raise InterruptedRunError from error
