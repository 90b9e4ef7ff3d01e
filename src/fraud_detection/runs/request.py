"""What a run is asked to do."""

from dataclasses import dataclass
from datetime import datetime

from fraud_detection.commands import Commands
from fraud_detection.schema import RunCost
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine


@dataclass(frozen=True)
class ClusterPrice:
    """What the cluster that runs this costs."""

    per_hour: float
    """Of all its hosts, in `currency`."""
    currency: str
    since: datetime
    """When its creation was requested, aware."""

    def cost_until(self, now: datetime) -> RunCost:
        """What it has cost until then; nothing if the clocks disagree."""
        seconds = max(0.0, (now - self.since).total_seconds())
        return RunCost(
            amount=round(self.per_hour * seconds / 3600, 4),
            currency=self.currency,
            seconds=round(seconds, 1),
            price_per_hour=self.per_hour,
        )


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
    cluster_price: ClusterPrice | None = None
    """None where it is unknown: then no cost is recorded."""

    @property
    def commands(self) -> Commands:
        """Command lines with these options."""
        return Commands(self.config, self.output, self.tracking_uri)
