"""What a server has counted, as Prometheus reads it (text format 0.0.4). It holds no value of the data."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_PREFIX = "fraud_detection_serving"


class Metrics:
    """Counters of a server since its start."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        """By HTTP status."""
        self.events: Counter[str] = Counter()
        """By the names of `EVENTS`."""
        self._within = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        """Count an answer to a request for a score."""
        self.requests[status] += 1
        self._within[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of them, and what holds now."""
        lines = _declared("requests_total", "counter", "Requests for a score, by HTTP status.")
        lines += [
            f'{_PREFIX}_requests_total{{status="{code}"}} {count}' for code, count in sorted(self.requests.items())
        ]
        lines += _declared("request_seconds", "histogram", "Time to answer a request for a score.")
        total = 0
        for limit, count in zip((*map(str, _BUCKETS), "+Inf"), self._within, strict=True):
            total += count
            lines.append(f'{_PREFIX}_request_seconds_bucket{{le="{limit}"}} {total}')
        lines += [f"{_PREFIX}_request_seconds_sum {self._seconds:.6f}", f"{_PREFIX}_request_seconds_count {total}"]
        for name, meaning in EVENTS.items():
            lines += [*_declared(f"{name}_total", "counter", meaning), f"{_PREFIX}_{name}_total {self.events[name]}"]
        for name, value in gauges.items():
            lines += [*_declared(name, "gauge", GAUGES[name]), f"{_PREFIX}_{name} {value:.15g}"]
        return "\n".join(lines) + "\n"


EVENTS = {
    "alerts": "Scores that reached the threshold.",
    "repeated_transactions": "Transactions that the server had already.",
    "champion_changes": "Times that another version came into service.",
    "champion_failures": "Times that the champion could not be read or loaded.",
    "store_loads": "Times that the rows of the store were loaded.",
    "store_failures": "Times that they could not be loaded.",
    "journal_failures": "Times that the journal could not be brought to the disk.",
}
GAUGES = {
    "model_version": "The version that scores; 0 where none does.",
    "loaded_rows": "Rows of the store in memory.",
    "arrived_rows": "Transactions that arrived since the store was read.",
    "cards": "Cards that the server knows.",
    "store_manifest": "The state of the store that was loaded.",
    "newest_row_timestamp_seconds": "The time of the newest row of the store.",
    "started_timestamp_seconds": "When the server was ready.",
}


def _declared(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {_PREFIX}_{name} {meaning}", f"# TYPE {_PREFIX}_{name} {kind}"]
