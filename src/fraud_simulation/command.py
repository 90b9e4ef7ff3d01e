"""The command that writes demo data: `scripts/create_demo_data.py` and `fraud-detection create-data`."""

import math
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from fraud_simulation.demo import DEMO, DRIFT_DATE, regimes
from fraud_simulation.world import FileFormat, World

_DATE = click.DateTime(formats=["%Y-%m-%d"])
_FIRST, _LAST = date(1970, 1, 1), date(2199, 12, 31)
"""The data contract takes no earlier times, and calendars of Python and Parquet end."""


class GivenPath(click.Path):
    """A path; an empty one, as a variable that is not set gives, is refused: it would mean the current folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:  # noqa: ANN401  (click decides the types)
        if not str(value).strip():
            self.fail("found nothing; expected a path. Is a variable not set?", parameter, context)
        return super().convert(value, parameter, context)


def _day(_context: click.Context, _option: click.Parameter, moment: datetime) -> date:
    day = moment.date()
    if not _FIRST <= day <= _LAST:
        raise click.BadParameter(f"found {day}; expected a day between {_FIRST} and {_LAST}")
    return day


def _number(_context: click.Context, _option: click.Parameter, share: float) -> float:
    if math.isnan(share):  # no comparison with a limit refuses it
        raise click.BadParameter("found nan; expected a number")
    return share


@click.command("create-data", context_settings={"show_default": True})
@click.option(
    "--output",
    type=GivenPath(path_type=Path, file_okay=False),
    default=Path("data/input_data"),
    help="Files go to transactions/YYYY-MM-DD below it.",
)
@click.option("--start", type=_DATE, metavar="YYYY-MM-DD", callback=_day, default=str(DEMO.start), help="First day.")
@click.option("--days", type=click.IntRange(1, 3650), default=DEMO.days, help="Number of days.")
@click.option(
    "--transactions-per-day",
    type=click.IntRange(10, 5_000_000),
    default=DEMO.world.transactions_per_day,
    help="On average; cards and terminals grow with it.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=DEMO.world.seed,
    help="Another seed gives another set of cards, terminals and frauds.",
)
@click.option(
    "--drift-date",
    type=_DATE,
    metavar="YYYY-MM-DD",
    callback=_day,
    default=str(DRIFT_DATE),
    help="When the frauds change.",
)
@click.option(
    "--dirty-share",
    type=click.FloatRange(0.0, 0.5),
    callback=_number,
    default=0.0,
    help="Share of broken rows to add.",
)
@click.option(
    "--format", "form", type=click.Choice([form.value for form in FileFormat]), default="parquet", help="File format."
)
def create_data(
    output: Path,
    start: date,
    days: int,
    transactions_per_day: int,
    seed: int,
    drift_date: date,
    dirty_share: float,
    form: str,
) -> None:
    """Simulate card transactions with late fraud labels, one file a day.

    The same seed, transactions per day and drift date give the same day, whichever days are made with it.
    """
    import numpy as np  # late, as the simulation is: help of all commands shows this one too

    from fraud_simulation.files import write_days

    world = World(seed, transactions_per_day, regimes(drift_date))
    rows = frauds = 0
    try:
        for _, table in write_days(world, output, start, days, dirty_share, FileFormat(form)):
            rows += len(table)
            frauds += int(np.count_nonzero(table["fraud"].to_numpy() == 1))
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else error
        raise click.ClickException(
            f"--output {output} cannot be written: {cause}; make room on the disk, or choose another --output"
        ) from error
    click.echo(f"{rows:,} transactions · {frauds:,} frauds · {days} files in {output / 'transactions'}")
