"""What a run is asked to do."""

from dataclasses import dataclass
from datetime import datetime

from fraud_detection.commands import Commands
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine


@dataclass(frozen=True)
class Request:
    """The options of one run."""

    settings: Settings
    config: str
    """The settings file, for the commands that messages name."""
    input_path: str
    output: str
    tracking_uri: str
    as_of: datetime | None
    """As-of time (aware, floored to the hour); None is the first whole hour after the newest transaction."""
    engine: Engine
    clock: datetime
    """The current time, aware: transactions later than it are rejected."""
    store: str | None = None
    """The folder of the store of rows; None is the output."""

    @property
    def commands(self) -> Commands:
        """Command lines with these options."""
        return Commands(self.config, self.output, self.tracking_uri)
