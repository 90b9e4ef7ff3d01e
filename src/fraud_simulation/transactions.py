"""The table of one simulated day, the same whichever other days are made."""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraud_simulation import fraud
from fraud_simulation.dirt import dirty_rows
from fraud_simulation.population import cards_on, population
from fraud_simulation.randomness import IntArray, Stream, generator
from fraud_simulation.spending import Rows, genuine
from fraud_simulation.world import World

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("transaction_time", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.int64()),
        ("terminal_id", pa.int64()),
        ("amount", pa.float64()),
        ("fraud", pa.int8()),
        ("label_available_at", pa.timestamp("us", tz="UTC")),
    ]
)
IDS_PER_DAY = 10_000_000
LABEL_DELAY_MEDIAN_DAYS = 2.8
LABEL_DELAY_SIGMA = 0.6
"""Standard deviation of the log delay: nine of ten reported frauds are known within 6.1 days."""
NEVER_REPORTED = 0.03
"""Share of frauds whose chargeback never comes. They look genuine, as they would to a bank."""
_SECOND = 1_000_000
_EPOCH = date(1970, 1, 1).toordinal()


def day_table(world: World, day: date, dirty_share: float = 0.0) -> pa.Table:
    """The transactions of a day by time (columns as in SCHEMA), then its dirty rows, if any."""
    return _day(world, day, dirty_share)[0]


def hour_table(world: World, moment: datetime, dirty_share: float = 0.0) -> pa.Table:
    """The rows of a day's table that arrive in the hour of `moment` (UTC); a dirty row arrives with what it copies."""
    table, hour = _day(world, moment.date(), dirty_share)
    return table.filter(pa.array(hour == moment.hour))


def scenarios(world: World, day: date) -> NDArray[np.int8]:
    """What each clean row of a day's table really is (see `fraud.Scenario`): (rows,)."""
    return _rows(world, day.toordinal())[0].scenario


def _day(world: World, day: date, dirty_share: float) -> tuple[pa.Table, IntArray]:
    """A day's table, and the hour in which each of its rows arrives."""
    rows, customer_id = _rows(world, day.toordinal())
    table, hour = _table(world, rows, customer_id, day), rows.second // 3600
    if dirty_share == 0.0:
        return table, hour
    dirty, source = dirty_rows(table, world.seed, day, dirty_share)
    return pa.concat_tables([table, dirty]), np.concatenate([hour, hour[source]])


def _rows(world: World, day: int) -> tuple[Rows, IntArray]:
    """The rows of a day by time, and their customers."""
    people = population(world.seed, world.transactions_per_day)
    cards = cards_on(people, day)
    own = fraud.at_compromised_terminals(world, genuine(people, cards, day), day)
    added = [scenario(world, cards, day) for scenario in (fraud.large_amounts, fraud.leaked_cards, fraud.card_testing)]
    rows = Rows.concatenate([own, *added])
    rows = rows.take(np.argsort(rows.second, kind="stable"))
    return rows, cards.customer_id[rows.slot]


def _table(world: World, rows: Rows, customer_id: IntArray, day: date) -> pa.Table:
    """Ids, times, cents and labels for the rows of a day."""
    ordinal, count = day.toordinal(), len(rows.slot)
    if count >= IDS_PER_DAY:
        raise ValueError(f"{count} transactions on {day}; a day has ids for {IDS_PER_DAY}")
    time = (ordinal - _EPOCH) * 86_400 * _SECOND + rows.second * _SECOND
    reported, known = _labels(world, rows, time, ordinal)
    first_id = int(day.strftime("%Y%m%d")) * IDS_PER_DAY
    columns = [
        pa.array(first_id + 1 + np.arange(count)),
        pa.array(time).cast(SCHEMA.field("transaction_time").type),
        pa.array(customer_id),
        pa.array(1 + rows.terminal),
        pa.array(np.maximum(np.rint(rows.amount * 100.0), 1.0) / 100.0),
        pa.array(reported.astype(np.int8)),
        pa.array(known, mask=~reported).cast(SCHEMA.field("label_available_at").type),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _labels(world: World, rows: Rows, time: IntArray, day: int) -> tuple[NDArray[np.bool_], IntArray]:
    """Which rows are ever reported as frauds, and when (microseconds; 0 for the others): (rows,), (rows,)."""
    rng = generator(world.seed, Stream.LABELS, day)
    where = np.flatnonzero(rows.scenario)
    where = where[rng.random(len(where)) >= NEVER_REPORTED]
    delay_days = LABEL_DELAY_MEDIAN_DAYS * np.exp(LABEL_DELAY_SIGMA * rng.standard_normal(len(where)))
    reported, known = np.zeros(len(time), np.bool_), np.zeros(len(time), np.int64)
    reported[where] = True
    known[where] = time[where] + (delay_days * 86_400).astype(np.int64) * _SECOND
    return reported, known
