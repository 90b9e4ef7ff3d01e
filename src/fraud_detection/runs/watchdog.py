"""Ends a run that stands still, so that its schedule can start it again.

Where the interpreter itself is stuck (C code that never releases its lock), no Python can run: then `faulthandler`, a
thread without Python, ends the process with exit code 1 and without an outcome, as if it had been killed.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from fraud_detection.errors import StalledError

_LAST_WORDS_SECONDS = 60.0
"""For the message and the outcome; the storage may be what stands still."""


class Watchdog:
    """Ends the process with exit code 75 where a block reports no progress for too long.

    Args:
        minutes: without progress; then the stacks of all threads go to standard error.
        report: takes the error that names the phase, and passes it on. It runs in a thread of its own.
    """

    def __init__(self, minutes: float, report: Callable[[StalledError], None]) -> None:
        self._minutes = minutes
        self._report = report
        self._phase, self._since = "start", monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.progress(self._phase)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        faulthandler.cancel_dump_traceback_later()

    def progress(self, phase: str) -> None:
        """The run goes on, in this phase."""
        self._phase, self._since = phase, monotonic()
        if sys.__stderr__ is not None:
            last = self._minutes * 60 + 2 * _LAST_WORDS_SECONDS
            faulthandler.dump_traceback_later(last, exit=True, file=sys.__stderr__)

    def _watch(self) -> None:
        while (left := self._since + self._minutes * 60 - monotonic()) > 0:
            if self._over.wait(left):
                return
        end = threading.Thread(target=self._tell, name="watchdog's report", daemon=True)
        end.start()
        end.join(_LAST_WORDS_SECONDS)
        os._exit(StalledError.exit_code)

    def _tell(self) -> None:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)  # names of files and functions alone: no value, no secret
        self._report(
            StalledError(
                f"no progress for {self._minutes:g} minute(s) in phase {self._phase!r}; the stacks of its threads are"
                " in the log. Run this again; if the phase does need longer, raise progress_timeout_minutes in the"
                " settings"
            )
        )
