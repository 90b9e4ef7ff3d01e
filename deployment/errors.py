"""Errors of the deployment commands: one sentence, and an exit code that says whether a retry can help."""

import sys
from collections.abc import Callable

FAILED = 1
WRONG_ARGUMENTS = 2
UNREACHABLE = 75


class DeploymentError(Exception):
    """Something is missing or refused; the message says what, what was expected, and the next command."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def log(line: str) -> None:
    """Report progress, at once even if the output is a file."""
    print(line, flush=True)


def run(command: Callable[[], None]) -> None:
    """Run a command; an expected error is one sentence on standard error, without a stack trace."""
    try:
        command()
    except DeploymentError as error:
        sys.exit(_failed(f"error: {error}", error.exit_code))
    except KeyboardInterrupt:
        sys.exit(_failed("stopped", 130))


def _failed(message: str, exit_code: int) -> int:
    print(message, file=sys.stderr)
    return exit_code
