"""What a run publishes once its decision is final: the report, what is due next, and which labels it knew.

Their content is kept with the run's intent. If a run was killed, or the disk was full, the next run publishes them. It
contains no row of data.
"""

from typing import Any

from pydantic import model_validator

from fraud_detection.outputs import report_file
from fraud_detection.report import Drawing, render
from fraud_detection.runs.health import write_known_labels
from fraud_detection.runs.scheduling import after_decision
from fraud_detection.schedule import Schedule, write_schedule
from fraud_detection.schema import Decision, KnownLabels, Stored
from fraud_detection.settings import REMOVED
from fraud_detection.storage import Storage


class Publication(Stored):
    """The content of a run's files that does not depend on the decision."""

    drawing: Drawing
    schedule: Schedule | None = None  # None in what an earlier release left: the next run writes it
    known_labels: KnownLabels | None = None  # None where those of an earlier run stay

    @model_validator(mode="before")
    @classmethod
    def _without_what_was_removed(cls, content: dict[str, Any]) -> dict[str, Any]:
        """What an earlier release kept: counts of maturity in place of the schedule, and settings that are no more."""
        kept = {name: value for name, value in content.items() if name != "maturity"}
        drawing = content.get("drawing")
        if isinstance(drawing, dict) and drawing.get("comparison"):
            known = {k: v for k, v in drawing["comparison"].items() if f"comparison.{k}" not in REMOVED}
            kept["drawing"] = {**drawing, "comparison": known}
        return kept


def publish(storage: Storage, decision: Decision, content: bytes) -> dict[str, bytes]:
    """Write what belongs to a decision that is final; repeated, it writes the same.

    Args:
        storage: the output folder.
        decision: as in the decision log.
        content: a `Publication` as JSON.

    Returns:
        The files to keep with the MLflow run.

    Raises:
        pydantic.ValidationError: the content is broken.
    """
    publication = Publication.model_validate_json(content)
    page = render(decision, publication.drawing).encode()
    storage.write_atomic(report_file(decision.model_name, decision.as_of), page)
    if publication.schedule is not None:
        write_schedule(storage, after_decision(publication.schedule, decision))
    if publication.known_labels is not None:
        write_known_labels(storage, publication.known_labels)
    return {"report.html": page}
