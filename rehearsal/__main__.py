"""`python -m rehearsal`: every stage, under a guard that leaves nothing behind."""

import sys

from rehearsal.guard import guarded

if __name__ == "__main__":
    sys.exit(guarded([sys.executable, "-m", "rehearsal.rehearse"]))
