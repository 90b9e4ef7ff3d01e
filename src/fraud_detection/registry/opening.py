"""What a run is going to measure, written before it measures anything: from then on its looks are charged."""

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.registry.context import Context
from fraud_detection.registry.log_chain import append, head_digest
from fraud_detection.registry.restoration import exclusive
from fraud_detection.schema import Opening


class LogMovedError(ServiceUnavailableError):
    """Another process has written entries since this one read the log."""


def write_opening(context: Context, opening: Opening, head: str) -> Opening:
    """Write an opening, unless this as-of time has one; see `Registry.write_opening`."""
    with exclusive(context, f"the opening of {opening.as_of:%Y-%m-%d %H:%M} UTC") as lease:
        found = context.log.find_opening(opening.as_of)
        if found is not None:
            return found
        if head_digest(context) == head:
            written = append(context, lease, opening.model_copy(update={"opened_at": lease.now()}))
            if written is not None:
                return written
    raise LogMovedError(
        f"another process has written into the decision log of {context.name} while this run read the data; nothing was"
        " measured; run the same command again"
    )
