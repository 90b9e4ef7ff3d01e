"""The installed command `fraud-detection`: an interrupt while the program is still loaded ends it without a trace.

It imports nothing large itself; from then on `fraud_detection.command_line` reports every failure.
"""

import os
import signal
import sys
from types import FrameType

_TEXT = "interrupted; next: run the same command again"
_CODE = 130


def main() -> None:
    """Load the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell ignores interrupts of a command in the background
        signal.signal(signal.SIGINT, _leave)
    from fraud_detection.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: an exception would pass through modules that are half loaded, and some of them catch it."""
    if "--json" in sys.argv[1:]:
        os.write(1, f'{{"error": "{_TEXT}", "exit_code": {_CODE}}}\n'.encode())
    os.write(2, f"error       {_TEXT}\n".encode())
    os._exit(_CODE)
