"""The ways a run can end badly, each with its exit code (see `docs/cli.md`).

Every message says what was found, what was expected, and what to do next; the command line shows the message alone,
without a stack trace. None of them holds a password: each is masked as it is made.
"""

from fraud_detection.masking import mask


class FraudDetectionError(Exception):
    """Anything that stops a run and that retrying or other data will not mend by itself."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(mask(message))


class SettingsError(FraudDetectionError):
    """Wrong arguments or settings."""

    exit_code = 2


class DataError(FraudDetectionError):
    """The data breaks its contract: retrying with the same data cannot help."""

    exit_code = 65


class StalledError(FraudDetectionError):
    """The run hangs: retrying can help."""

    exit_code = 75


class ServiceUnavailableError(FraudDetectionError):
    """A service (MLflow, object storage) cannot be reached: retrying later can help."""

    exit_code = 75


class InterruptedRunError(FraudDetectionError):
    """A person has stopped the command (Ctrl-C, SIGINT): running it again can help."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted; next: run the same command again")


def is_interruption(error: BaseException) -> bool:
    """Whether an interrupt was the cause, also where what it interrupted has failed in turn."""
    found: BaseException | None = error
    seen: set[int] = set()  # a chain may come back to itself
    while found is not None and id(found) not in seen:
        if isinstance(found, KeyboardInterrupt | InterruptedRunError):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False
