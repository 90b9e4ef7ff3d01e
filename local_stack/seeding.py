"""The demo's transactions: a history that ends now, and then each hour as it passes."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from deployment.paths import write_atomic
from fraud_simulation.demo import regimes
from fraud_simulation.world import World
from local_stack.settings import BUCKET, DEFAULTS

HISTORY_DAYS = 81
"""Label delay, hold-out, label delay, 28 days of training and the features' 30 days before them; and two to spare."""
DAYS_OF_NEW_FRAUDS = 24
"""The frauds have changed so long before the first run: it has just begun to see the new ones, later runs see more."""

SEED = 7
TRANSACTIONS_PER_DAY = int(DEFAULTS["TRANSACTIONS_PER_DAY"])

_HOUR = timedelta(hours=1)
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Story:
    """The parameters of the simulated bank; kept with the stack, so that later hours belong to the same bank."""

    seed: int
    transactions_per_day: int
    first_day: date
    first_hourly_day: date
    """From this day on there is a file for each hour; before it one for each day."""
    drift_date: date

    @property
    def world(self) -> World:
        return World(self.seed, self.transactions_per_day, regimes(self.drift_date))


def story(folder: Path, now: datetime, transactions_per_day: int = TRANSACTIONS_PER_DAY) -> Story:
    """The stack's simulated bank; it is created on the first call and never changed."""
    path = folder / "story.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        days = {name: date.fromisoformat(kept[name]) for name in ("first_day", "first_hourly_day", "drift_date")}
        return Story(**{**kept, **days})
    today = now.date()
    begun = Story(
        seed=SEED,
        transactions_per_day=transactions_per_day,
        first_day=today - timedelta(days=HISTORY_DAYS),
        first_hourly_day=today,
        drift_date=today - timedelta(days=DAYS_OF_NEW_FRAUDS),
    )
    write_atomic(path, json.dumps(asdict(begun), default=str, indent=2).encode())
    return begun


def seed(folder: Path, now: datetime, transactions_per_day: int = TRANSACTIONS_PER_DAY) -> int:
    """Write the history up to the last full hour; returns the number of files that were missing."""
    from fraud_simulation.files import write_days  # late: processes that stay in memory import this module too

    bank, data = story(folder, now, transactions_per_day), data_folder(folder)
    written = 0
    for offset in range((bank.first_hourly_day - bank.first_day).days):
        day = bank.first_day + timedelta(days=offset)
        if not (data / "transactions" / f"{day}.parquet").exists():
            written += len(list(write_days(bank.world, data, day, 1)))
    return written + feed(folder, now)


def feed(folder: Path, now: datetime) -> int:
    """Write every hour that is over and has no file; returns how many there were."""
    bank = story(folder, now)
    missing = [hour for hour in _hours(bank, now) if not _path(folder, hour).exists()]
    if not missing:
        return 0
    from fraud_simulation.files import write_table
    from fraud_simulation.transactions import hour_table

    for hour in missing:
        write_table(hour_table(bank.world, hour), _path(folder, hour))
    return len(missing)


def feed_forever(folder: Path) -> None:
    """Write each hour as soon as it is over, including the hours that passed while this did not run."""
    while True:
        if written := feed(folder, datetime.now(UTC)):
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {written} hour(s) written", flush=True)  # noqa: T201
        time.sleep(_POLL_SECONDS)


def is_fed(folder: Path) -> bool:
    """Whether the data reach up to the clock."""
    if not (folder / "story.json").exists():
        return False
    now = datetime.now(UTC)
    return all(_path(folder, hour).exists() for hour in _hours(story(folder, now), now))


def data_folder(folder: Path) -> Path:
    """The bucket's folder of transactions; the emulator's buckets are folders."""
    return folder / "cloud" / "buckets" / BUCKET / "input_data"


def _hours(bank: Story, now: datetime) -> Iterator[datetime]:
    """The full hours from the first hourly day to now."""
    hour = datetime.combine(bank.first_hourly_day, datetime.min.time(), UTC)
    while hour + _HOUR <= now:
        yield hour
        hour += _HOUR


def _path(folder: Path, hour: datetime) -> Path:
    return data_folder(folder) / "transactions" / f"{hour:%Y-%m-%d}" / f"{hour:%H}.parquet"
