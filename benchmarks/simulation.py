"""How many transactions the simulator makes in a CPU-second, with the Parquet files written.

CPU-seconds are those of the whole process, all threads, after the imports; settling the population is included.
"""

import tempfile
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time

import click

from fraud_simulation.demo import DEMO, regimes
from fraud_simulation.files import write_days
from fraud_simulation.world import World

TARGET = 500_000


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="The best of so many is checked.")
@click.option("--check", is_flag=True, help=f"Fail below {TARGET:,} transactions a CPU-second.")
def main(rounds: int, check: bool) -> None:
    """Measure the demo's volume, and ten times as many transactions a day on a tenth of the days."""
    volume = DEMO.world.transactions_per_day
    slowest = min(_measure(volume, DEMO.days, rounds), _measure(10 * volume, DEMO.days // 10, rounds))
    if check and slowest < TARGET:
        raise SystemExit(f"{slowest:,.0f} transactions a CPU-second; the target is {TARGET:,}")


def _measure(transactions_per_day: int, days: int, rounds: int) -> float:
    """Transactions a CPU-second."""
    best = 0.0
    for number in range(rounds):
        # A seed of its own each round, so that no population is there from the round before.
        world = World(DEMO.world.seed + number, transactions_per_day, regimes())
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = perf_counter(), process_time()
            rows = sum(len(table) for _, table in write_days(world, Path(folder), DEMO.start, days))
            wall, cpu = perf_counter() - wall, process_time() - cpu
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        best = max(best, rows / cpu)
        print(
            f"{transactions_per_day:>7,} a day x {days:>3} days  {rows:>9,} transactions  {cpu:5.2f} CPU-s  "
            f"{wall:5.2f} s  {rows / cpu:>9,.0f} per CPU-s  {size / rows:4.1f} bytes each"
        )
    first_day = DEMO.start + timedelta(days=days // 2)
    world = World(DEMO.world.seed, transactions_per_day, regimes())
    with tempfile.TemporaryDirectory() as folder:
        wall = perf_counter()
        for _ in write_days(world, Path(folder), first_day, 1):
            pass
        print(f"{'':>26}one day alone in {1000 * (perf_counter() - wall):.0f} ms")
    return best


if __name__ == "__main__":
    main()
