"""Runs that began since the last one that decided: too many of them are a fault that no further cluster repairs.

Nothing of Airflow is needed here, so that the library's tests run this very code. A run is counted when it begins and
forgotten when one decides: it depends on no callback, so a lost worker is counted as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

VARIABLE = "fraud_detection_attempts"
"""The Airflow variable that holds them: a task of Airflow 3 cannot read the states of earlier runs."""


@dataclass(frozen=True)
class Attempts:
    """The runs that began since the last decision, oldest first."""

    runs: tuple[str, ...] = ()
    announced: bool = False
    """Whether people were notified that scheduled runs are skipped."""

    @classmethod
    def parse(cls, text: str | None) -> Attempts:
        """The content of the variable; empty if there is none."""
        found = json.loads(text) if text else {}
        return cls(tuple(found.get("runs", ())), bool(found.get("announced")))

    @property
    def text(self) -> str:
        """The content for the variable."""
        return json.dumps(asdict(self))

    def reason_to_skip(self, run_id: str, limit: int) -> str | None:
        """Why a scheduled run may not begin; None if it may. A run that is cleared does not count against itself."""
        failed = len([run for run in self.runs if run != run_id])
        if failed < limit:
            return None
        return (
            f"the last {failed} runs ended without a decision, and max_failed_runs is {limit}: no cluster is created; "
            "next: fix the cause, which their logs show, then trigger the run with force"
        )

    def begun(self, run_id: str, *, forced: bool) -> Attempts:
        """With this run. A person who forces one has looked: earlier failures are not counted any more."""
        earlier = () if forced else tuple(run for run in self.runs if run != run_id)
        return Attempts((*earlier, run_id))

    def noted(self) -> Attempts:
        """With the note that people were notified."""
        return replace(self, announced=True)
