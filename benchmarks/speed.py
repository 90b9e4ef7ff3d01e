"""How fast the features are, beside other ways to compute them, and where the seconds of a whole run go.

    python benchmarks/speed.py --data handbook_transactions.parquet
    python benchmarks/speed.py --data handbook_transactions.parquet --times 10 --only kernel,sail,polars,duckdb --no-job

Each contender runs in a process of its own on the same file, all rows, all cores: it reads the file, computes, and sums
every feature, so that nothing is left lazy and the sums can be compared. The contest is about the 14 window features
that everyone can express (counts and mean amounts by card, counts and fraud rates by terminal, night, weekend); the
product's whole feature set has lines of its own.

start: imports and opening the engine; cold: the first computation; warm: the best of the others (`--rounds`). CPU: user
and system seconds of the process and all its children during the best warm computation. Memory: the highest
proportional set size of them all together, from start to end. Where others use the cores meanwhile, compare CPU.

`--times 10` makes a table of ten times the rows: copies of the file, each with cards, terminals and ids of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

Sums = dict[str, float]
Compute = Callable[[], Sums]

ROOT = Path(__file__).parents[1]
DAY = 86_400_000_000
DELAY = 7 * DAY
WINDOWS = (1, 7, 30)
BEGIN, END = datetime(2018, 4, 1, tzinfo=UTC), datetime(2018, 10, 2, tzinfo=UTC)
PANDAS_SHARE = 20  # pandas gets one card in 20 and one terminal in 20


@dataclass(frozen=True)
class Measured:
    """One contender: seconds, bytes, and the sums of its features."""

    name: str
    start: float
    cold: float
    warm: float
    cpu: float
    memory: int
    sums: Sums


# ------------------------------------------------------------------------------------------------- the contenders


@contextmanager
def product(data: str, engine: Engine, *, base_only: bool) -> Iterator[Compute]:
    """The plan of `fraud_detection.features`, as a run uses it."""
    from fraud_detection.features import with_features

    with session(engine) as spark:

        def compute() -> Sums:
            features = with_features(_canonical(spark, data), Settings(), BEGIN, END, base_only=base_only)
            return _spark_sums(features)

        yield compute


@contextmanager
def spark_sliding_range(data: str) -> Iterator[Compute]:
    """Window functions with RANGE frames, as one writes them first."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    with session(Engine.SPARK) as spark:

        def compute() -> Sums:
            rows = _canonical(spark, data).withColumn("us", F.unix_micros("transaction_time"))
            card, terminal = (Window.partitionBy(key).orderBy("us") for key in ("customer_id", "terminal_id"))
            for days in WINDOWS:
                window = card.rangeBetween(1 - days * DAY, 0)
                rows = rows.withColumn(f"card_count_{days}d", F.count("*").over(window).cast("double"))
                rows = rows.withColumn(f"card_mean_amount_{days}d", F.avg("amount").over(window))
            for days in WINDOWS:
                window = terminal.rangeBetween(1 - DELAY - days * DAY, -DELAY)
                rows = rows.withColumn(f"terminal_count_{days}d", F.count("*").over(window).cast("double"))
                rate = F.coalesce(F.avg("fraud").over(window), F.lit(0.0))
                rows = rows.withColumn(f"terminal_fraud_rate_{days}d", rate)
            hour, weekday = F.hour("transaction_time"), F.dayofweek("transaction_time")
            rows = rows.withColumn("night", (hour <= 6).cast("double"))
            return _spark_sums(rows.withColumn("weekend", weekday.isin(1, 7).cast("double")))

        yield compute


@contextmanager
def duckdb_windows(data: str) -> Iterator[Compute]:
    """SQL window functions with RANGE frames."""
    import duckdb

    columns, frames = ["hour(time) <= 6 AS night", "isodow(time) >= 6 AS weekend"], []
    for days in WINDOWS:
        frames += [
            f"c{days} AS (PARTITION BY card ORDER BY us RANGE BETWEEN {days * DAY - 1} PRECEDING AND CURRENT ROW)",
            f"t{days} AS (PARTITION BY terminal ORDER BY us "
            f"RANGE BETWEEN {DELAY + days * DAY - 1} PRECEDING AND {DELAY} PRECEDING)",
        ]
        columns += [
            f"count(*) OVER c{days} AS card_count_{days}d",
            f"avg(amount) OVER c{days} AS card_mean_amount_{days}d",
            f"count(*) OVER t{days} AS terminal_count_{days}d",
            f"coalesce(avg(fraud) OVER t{days}, 0) AS terminal_fraud_rate_{days}d",
        ]
    # S608: the only text from outside is the path, a parameter.
    query = (
        "SELECT sum(COLUMNS(*)) FROM (SELECT "  # noqa: S608
        + ", ".join(columns)
        + " FROM (SELECT epoch_us(TX_DATETIME) AS us, TX_DATETIME AS time, TX_AMOUNT AS amount, TX_FRAUD AS fraud,"
        + " CUSTOMER_ID AS card, TERMINAL_ID AS terminal FROM read_parquet($data)) WINDOW "
        + ", ".join(frames)
        + ")"
    )
    connection = duckdb.connect()

    def compute() -> Sums:
        found = connection.execute(query, {"data": data})
        names = [column[0].removeprefix("sum(").removesuffix(")") for column in found.description or ()]
        row = found.fetchone() or ()
        return {name: float(value) for name, value in zip(names, row, strict=True)}

    yield compute
    connection.close()


@contextmanager
def polars_rolling(data: str) -> Iterator[Compute]:
    """Rolling sums by time within each key; a delayed window is a longer one less a shorter one."""
    import polars as pl

    def rolling(values: pl.Expr, days: int, key: str) -> pl.Expr:
        return values.rolling_sum_by("time", window_size=f"{days}d", closed="right").over(key)

    def compute() -> Sums:
        rows = pl.scan_parquet(data).select(
            time="TX_DATETIME", amount="TX_AMOUNT", fraud=pl.col("TX_FRAUD").cast(pl.Int64), one=pl.lit(1, pl.Int64),
            card="CUSTOMER_ID", terminal="TERMINAL_ID",
        )  # fmt: skip
        rows = rows.sort("card", "time")
        for days in WINDOWS:
            count, amount = (rolling(pl.col(name), days, "card") for name in ("one", "amount"))
            rows = rows.with_columns(count.alias(f"card_count_{days}d"), amount.alias("spent"))
            mean = pl.col("spent") / pl.col(f"card_count_{days}d")
            rows = rows.with_columns(mean.alias(f"card_mean_amount_{days}d")).drop("spent")
        rows = rows.sort("terminal", "time")
        recent = [rolling(pl.col(name), 7, "terminal").alias(f"{name}_7") for name in ("one", "fraud")]
        rows = rows.with_columns(recent)
        for days in WINDOWS:
            count, frauds = (
                rolling(pl.col(name), 7 + days, "terminal") - pl.col(f"{name}_7") for name in ("one", "fraud")
            )
            rows = rows.with_columns(count.alias(f"terminal_count_{days}d"), frauds.alias("frauds"))
            rate = pl.col("frauds") / pl.max_horizontal(pl.col(f"terminal_count_{days}d"), 1)
            rows = rows.with_columns(rate.alias(f"terminal_fraud_rate_{days}d")).drop("frauds")
        time_of = pl.col("time").dt
        rows = rows.with_columns(night=time_of.hour() <= 6, weekend=time_of.weekday() >= 6)
        found = rows.select(pl.col(_names()).cast(pl.Float64).sum()).collect()
        return {name: float(value) for name, value in found.row(0, named=True).items()}

    yield compute


@contextmanager
def pandas_rolling(data: str) -> Iterator[Compute]:
    """The Handbook's own way, `groupby().apply(rolling)`, on a sample of cards and terminals."""
    import pandas as pd

    def compute() -> Sums:
        rows = pd.read_parquet(data, columns=["TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"])
        rows.columns = pd.Index(["time", "card", "terminal", "amount", "fraud"])
        cards = rows[rows["card"] % PANDAS_SHARE == 0].groupby("card")[["time", "amount"]]
        terminals = rows[rows["terminal"] % PANDAS_SHARE == 0].groupby("terminal")[["time", "fraud"]]
        found = pd.concat([cards.apply(_pandas_card).sum(), terminals.apply(_pandas_terminal).sum()]) * PANDAS_SHARE
        found["night"] = (rows["time"].dt.hour <= 6).sum()
        found["weekend"] = (rows["time"].dt.weekday >= 5).sum()
        return {str(name): float(value) for name, value in found.items()}

    yield compute


def _pandas_card(rows: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    amount = rows.set_index("time")["amount"]
    found = {}
    for days in WINDOWS:
        window = amount.rolling(f"{days}d")
        found[f"card_count_{days}d"] = window.count()
        found[f"card_mean_amount_{days}d"] = window.mean()
    return pd.DataFrame(found)


def _pandas_terminal(rows: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    fraud = rows.set_index("time")["fraud"]
    recent = fraud.rolling("7d")
    found = {}
    for days in WINDOWS:
        window = fraud.rolling(f"{7 + days}d")
        count, frauds = window.count() - recent.count(), window.sum() - recent.sum()
        found[f"terminal_count_{days}d"] = count
        found[f"terminal_fraud_rate_{days}d"] = frauds / count.clip(lower=1)
    return pd.DataFrame(found)


@contextmanager
def bare_kernel(data: str, *, base_only: bool) -> Iterator[Compute]:
    """The product's kernels on arrays, without an engine, on one core."""
    import numpy as np
    import pyarrow.parquet as pq

    from fraud_detection.features.calendar import calendar_features
    from fraud_detection.features.cards import card_features, to_cents
    from fraud_detection.features.terminals import KnownFrauds, terminal_features
    from fraud_detection.labels import NEVER, known_at

    names = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]

    def compute() -> Sums:
        table = pq.read_table(data, columns=names)
        ids, cards, terminals = (
            table[name].to_numpy().astype(np.int64) for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")
        )
        times = table["TX_DATETIME"].to_numpy().astype("datetime64[us]").astype(np.int64)
        cents, fraud = to_cents(table["TX_AMOUNT"].to_numpy()), table["TX_FRAUD"].to_numpy() == 1
        start = int(times.min())
        known = np.where(fraud, known_at(times, None, DELAY), NEVER)
        first = card_features(cards, times, ids, cents, known, start, start, DELAY, past=not base_only)
        at = first.positions
        frauds = KnownFrauds(known[at], None, first.unexplained, cents[at], first.to_median)
        second = terminal_features(terminals[at], times[at], ids[at], frauds, start, DELAY, windows_only=base_only)
        features = first.features | second.features | calendar_features(times)
        return {name: float(np.nansum(values)) for name, values in features.items()}

    yield compute


def _canonical(spark: "SparkSession", data: str) -> "DataFrame":
    from pyspark.sql import functions as F  # noqa: N812

    return spark.read.parquet(data).select(
        F.col("TRANSACTION_ID").cast("bigint").alias("transaction_id"),
        F.col("TX_DATETIME").cast("timestamp").alias("transaction_time"),
        F.col("TX_AMOUNT").alias("amount"),
        F.col("TX_FRAUD").cast("tinyint").alias("fraud"),
        F.col("CUSTOMER_ID").cast("bigint").alias("customer_id"),
        F.col("TERMINAL_ID").cast("bigint").alias("terminal_id"),
    )


def _spark_sums(features: "DataFrame") -> Sums:
    from pyspark.sql import functions as F  # noqa: N812

    left_out = ("amount", "sample_hash")
    names = [name for name, kind in features.dtypes if kind == "double" and name not in left_out]
    row = features.agg(*(F.sum(name).alias(name) for name in names)).collect()[0]
    return {name: float(row[name]) for name in names}


def _names() -> list[str]:
    from fraud_detection.features import BASE_FEATURES

    return [name for name in BASE_FEATURES if name != "amount"]


SAIL, KERNEL, POLARS, DUCKDB = "product on Sail", "bare numpy kernel, 1 core (the limit)", "Polars", "DuckDB"
SPARK, SLIDING = "product on Spark", "Spark, sliding RANGE"
PANDAS = f"pandas rolling, 1/{PANDAS_SHARE} of the keys"
CONTENDERS: dict[str, Callable[[str], Any]] = {
    KERNEL: lambda data: bare_kernel(data, base_only=True),
    SAIL: lambda data: product(data, Engine.SAIL, base_only=True),
    POLARS: polars_rolling,
    DUCKDB: duckdb_windows,
    SPARK: lambda data: product(data, Engine.SPARK, base_only=True),
    SLIDING: spark_sliding_range,
    PANDAS: pandas_rolling,
    "all features: bare kernel, 1 core": lambda data: bare_kernel(data, base_only=False),
    "all features: product on Sail": lambda data: product(data, Engine.SAIL, base_only=False),
    "all features: product on Spark": lambda data: product(data, Engine.SPARK, base_only=False),
}


# ------------------------------------------------------------------------------------------------------ measuring


def main() -> int:
    """Measure every contender and the whole job, print the tables; 1 where a target is missed with `--check`."""
    options = _arguments()
    if options.contender:
        print(json.dumps(_run(options.contender, options.data, options.rounds)))
        return 0
    print(_machine())
    wanted = options.only.lower().split(",")
    chosen = [name for name in CONTENDERS if any(part in name.lower() for part in wanted)]
    with tempfile.TemporaryDirectory() as folder:
        data = options.data if options.times == 1 else _copies(options.data, options.times, Path(folder))
        found = _contest(chosen, data, options.rounds)
    jobs = {} if options.no_job else {engine: _whole_job(engine, options.data) for engine in Engine}
    _print_jobs(jobs)
    passed = _print_targets({name: measured.warm for name, measured in found.items()}, jobs)
    return 0 if passed or not options.check else 1


def _contest(chosen: list[str], data: str, rounds: int) -> dict[str, Measured]:
    """Measure these contenders, a line for each as soon as it has ended."""
    import pyarrow.parquet as pq

    found: dict[str, Measured] = {}
    title = f"14 window features of {pq.read_metadata(data).num_rows:,} rows"
    print(f"\n| {title} | start s | cold s | warm s | CPU s | memory MB | largest difference |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in chosen:
        found[name] = _measure(name, data, rounds)
        _print_line(found[name], found.get(KERNEL))
    if PANDAS in found:
        print(
            f"\npandas computes 1/{PANDAS_SHARE} of the keys; its seconds and sums above are scaled up, its memory is"
            " not."
        )
    return found


def _copies(data: str, times: int, folder: Path) -> str:
    """A file with the rows of a file several times, each time of other transactions, cards and terminals."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table, keys = pq.read_table(data), ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")
    path = str(folder / f"{times}_times.parquet")
    steps = {name: int(pc.max(table[name].cast("int64")).as_py()) + 1 for name in keys}
    for name in keys:
        table = table.set_column(table.column_names.index(name), name, table[name].cast("int64"))
    with pq.ParquetWriter(path, table.schema) as writer:
        for number in range(times):
            copy = table
            for name, step in steps.items():
                copy = copy.set_column(copy.column_names.index(name), name, pc.add(table[name], number * step))
            writer.write_table(copy)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the features, and of the whole job.")
    given = os.environ.get("HANDBOOK_DATA")
    parser.add_argument("--data", default=given, required=given is None, help="handbook_transactions.parquet")
    parser.add_argument("--only", default="", help="only contenders whose name contains one of these, with commas")
    parser.add_argument("--times", type=int, default=1, help="copies of the data in one table; 1 is the file itself")
    parser.add_argument("--rounds", type=int, default=3, help="computations of each contender; the first one is cold")
    parser.add_argument("--no-job", action="store_true", help="leave the whole job out")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(name: str, data: str, rounds: int) -> dict[str, Any]:
    """In a contender's own process: compute some times; a single computation is both the cold and the warm one."""
    began = time.perf_counter()
    with CONTENDERS[name](data) as compute:
        start = time.perf_counter() - began
        runs = []
        for _ in range(rounds):
            cpu, began = _cpu_seconds(), time.perf_counter()
            sums = compute()
            runs.append((time.perf_counter() - began, _cpu_seconds() - cpu))
    cold, (warm, cpu) = runs[0][0], min(runs[1:] or runs)
    return {"start": start, "cold": cold, "warm": warm, "cpu": cpu, "sums": sums}


def _cpu_seconds() -> float:
    """User and system seconds of this process and its children, those that have ended included."""
    return sum(sum(process.cpu_times()[:4]) for process in _family(psutil.Process()))


def _measure(name: str, data: str, rounds: int) -> Measured:
    command = [sys.executable, __file__, "--data", data, "--contender", name, "--rounds", str(rounds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        memory = _peak_memory(process)
        output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{name}: exit code {process.returncode}; run it alone: {' '.join(command)!r}")
    found = json.loads(output.splitlines()[-1])
    return Measured(name, memory=memory, **found)


def _peak_memory(process: "subprocess.Popen[str]") -> int:
    """Watch a process and its children until it ends."""
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, _family(root))))
        time.sleep(0.05)
    return peak


def _memory(process: psutil.Process) -> int:
    """Shared pages are divided among those who share them."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0


def _family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _whole_job(engine: Engine, data: str) -> dict[str, Any]:
    """`fraud-detection retrain` on all rows: 84 training days, MLflow on SQLite, report included."""
    program = "from fraud_detection.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, "retrain", "--config", str(ROOT / "conf" / "handbook.yaml")]
        command += ["--input", data, "--output", folder, "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--engine", engine.value, "--json"]
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        ) as process:
            memory = _peak_memory(process)
            output, error = process.communicate()
        wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"retrain on {engine.value}: exit code {process.returncode}\n{error}")
    return {"wall": wall, "memory": memory, **json.loads(output)}


# ------------------------------------------------------------------------------------------------------- printing


def _machine() -> str:
    names = ("numpy", "pyarrow", "pysail", "pyspark", "duckdb", "polars", "pandas")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{cores} cores of {_processor()}, load {load} at the start; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _print_line(measured: Measured, limit: Measured | None) -> None:
    scale = PANDAS_SHARE if measured.name == PANDAS else 1
    difference = "" if limit is None or limit is measured else f"{_difference(measured.sums, limit.sums):.0e}"
    seconds = f"{measured.start:.1f} | {measured.cold * scale:.2f} | {measured.warm * scale:.2f}"
    memory = measured.memory / 1e6
    print(f"| {measured.name} | {seconds} | {measured.cpu * scale:.1f} | {memory:,.0f} | {difference} |", flush=True)


def _difference(sums: Sums, expected: Sums) -> float:
    """The largest relative difference of a sum; ties in time and a sample of keys make small ones."""
    common = sums.keys() & expected.keys()
    return max(abs(sums[name] - expected[name]) / abs(expected[name]) for name in common)


def _print_jobs(jobs: dict[Engine, dict[str, Any]]) -> None:
    if not jobs:
        return
    phases = list(dict.fromkeys(phase for job in jobs.values() for phase in job["seconds"]))
    print("\n| whole job, phase s | " + " | ".join(engine.value for engine in jobs) + " |")
    print("|---|" + "---:|" * len(jobs))
    for phase in phases:
        print(f"| {phase} | " + " | ".join(f"{job['seconds'].get(phase, 0):.2f}" for job in jobs.values()) + " |")
    rest = [job["wall"] - sum(job["seconds"].values()) for job in jobs.values()]
    print("| start, end, everything else | " + " | ".join(f"{value:.2f}" for value in rest) + " |")
    print("| **wall** | " + " | ".join(f"**{job['wall']:.2f}**" for job in jobs.values()) + " |")
    print("| memory MB | " + " | ".join(f"{job['memory'] / 1e6:,.0f}" for job in jobs.values()) + " |")


def _print_targets(warm: dict[str, float], jobs: dict[Engine, dict[str, Any]]) -> bool:
    pairs = [(SAIL, KERNEL, 1.5), (SAIL, POLARS, 1.0), (SAIL, DUCKDB, 1.0), (SPARK, SLIDING, 1.0)]
    targets = [
        (f"{name} within {factor} x {other}", warm[name], factor * warm[other])
        for name, other, factor in pairs
        if name in warm and other in warm
    ]
    limits = {Engine.SAIL: 15.0, Engine.SPARK: 40.0}
    targets += [(f"whole job on {engine.value}", job["wall"], limits[engine]) for engine, job in jobs.items()]
    if targets:
        print("\n| target | measured s | limit s | |\n|---|---:|---:|---|")
    for name, value, limit in targets:
        print(f"| {name} | {value:.2f} | {limit:.2f} | {'ok' if value <= limit else 'MISSED'} |")
    return all(value <= limit for _, value, limit in targets)


if __name__ == "__main__":
    raise SystemExit(main())
