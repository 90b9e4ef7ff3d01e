"""Ends a run that hangs, so that its scheduler can start it again.

If the interpreter itself is stuck (C code that never releases its lock), no Python can run. Then `faulthandler`, a
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

_REPORT_SECONDS = 60.0
"""For the message and the outcome; the storage may be what hangs."""


class Watchdog:
    """Ends the process with exit code 75 if a block reports no progress for too long.

    Args:
        minutes: without progress; then the stacks of all threads go to standard error.
        report: reports the error, which names the phase. It runs in its own thread.
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
        """Note that the run is making progress, in this phase."""
        self._phase, self._since = phase, monotonic()
        if sys.__stderr__ is not None:
            last = self._minutes * 60 + 2 * _REPORT_SECONDS
            faulthandler.dump_traceback_later(last, exit=True, file=sys.__stderr__)

    def _watch(self) -> None:
        while (left := self._since + self._minutes * 60 - monotonic()) > 0:
            if self._over.wait(left):
                return
        end = threading.Thread(target=self._report_stall, name="watchdog's report", daemon=True)
        end.start()
        end.join(_REPORT_SECONDS)
        os._exit(StalledError.exit_code)

    def _report_stall(self) -> None:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)  # names of files and functions alone: no value, no secret
        self._report(
            StalledError(
                f"no progress for {self._minutes:g} minute(s) in phase {self._phase!r}; the stacks of its threads are"
                " in the log. Run this again; if the phase does need longer, raise progress_timeout_minutes in the"
                " settings"
            )
        )
