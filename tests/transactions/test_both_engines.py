"""Sail and Spark read the same."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from reader_data import (
    ALL,
    BAD,
    CASES,
    CLOCK,
    LABEL_TABLE,
    NOON,
    WITH_NUMBER,
    damaged,
    fingerprint,
    label,
    row,
    write_csv,
    write_parquet,
)

from fraud_detection import settings
from fraud_detection.errors import DataError
from fraud_detection.spark_session import Engine, session
from fraud_detection.storage import open_folder
from fraud_detection.transactions.reader import Transactions, read_transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

pytest_plugins = ["reader_data"]

FOREIGN = settings.Format(
    separator=";",
    encoding="utf-16",
    skip_lines=1,
    time_formats=("%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M"),
    time_zone="Europe/Berlin",
    decimal_mark=",",
    thousands_mark=".",
    currency=("€",),
    fraud_values=("Y",),
    genuine_values=("N",),
)


def write_foreign(folder: Path) -> None:
    """Rows in forms that only `FOREIGN` reads, some of them bad."""
    rows = [
        row(
            f"t{number}",
            transaction_time=f"{number + 1:02}.03.2025 12:30" if number != 7 else "32.03.2025 12:30",
            amount=f"€ 1.{number:03},5" if number != 8 else "5,00 $",
            fraud="NY"[number % 2] if number != 9 else "?",
            label_available_at=f"{number + 2:02}.04.2025 8:00",
        )
        for number in range(20)
    ]
    names = [*rows[0]][:-1]
    lines = [";".join(str(row[name]) for name in names) for row in rows]
    lines = [f"{line};{row['label_available_at'].replace(' ', ';')}" for line, row in zip(lines, rows, strict=True)]
    text = "\n".join(["Export", ";".join([*names, "day", "clock"]), *lines, "x;y"])
    (folder / "foreign").mkdir()
    (folder / "foreign" / "a.csv").write_text(text, encoding="utf-16")
    write_parquet(folder / "foreign parquet" / "a.parquet", rows)
    local = [row(f"u{number}", customer_id=float(number), fraud=number % 2) for number in range(9)]
    write_parquet(folder / "foreign parquet" / "b.parquet", [one | {"customer_id": 3} for one in local])
    write_parquet(
        folder / "foreign parquet" / "c.parquet", [one | {"transaction_id": f"v{n}"} for n, one in enumerate(local)]
    )


def told(transactions: Transactions) -> dict[str, Any]:
    """What was read, as plain values."""
    profile = transactions.profile
    return {
        "rows": profile.rows,
        "rejected": profile.rejected,
        "faults": {reason: text.replace("9.9A99", "9" * 14 + ".9") for reason, text in profile.faults.items()},
        "fingerprint": fingerprint(transactions),
        "delay": str(profile.label_delay),
        "hours": profile.transactions_by_hour.tolist(),
        "labels": str(profile.labels),
        "types": transactions.table.dtypes,
        "blocked": profile.flags.blocked_unlabelled.tolist(),
        "copies and refunds": (profile.equal_rows, profile.refunds, profile.unknown_cards),
        "ids": sorted(str(one[0]) for one in transactions.table.select("transaction_id").collect()),
    }


@contextmanager
def from_store(spark: SparkSession, data: settings.Data, path: str) -> Iterator[Transactions]:
    """As `read_transactions`, through a store that is made for it."""
    with tempfile.TemporaryDirectory() as folder:
        output, sources = open_folder(folder), store_inputs(data, path)
        snapshot = JoinedStore(output, "store/", sources, lambda: CLOCK).update().snapshot
        yield read_stored(spark, data, path, snapshot, MeasuredDays(output, "store/", data), CLOCK)


def describe(spark: SparkSession, folder: str) -> dict[str, dict[str, Any]]:
    """What the engines must agree on, as plain values. The fingerprint covers every value of the good rows."""
    columns = settings.Columns(**vars(WITH_NUMBER) | {"extra_categorical": ("k",)})
    labels = settings.LabelTable(path=f"{folder}/labels")
    derived = settings.Columns(**vars(columns) | {"transaction_id": None, "blocked": "stopped"})
    found = {}
    for form, place, data in (
        ("csv", "csv", settings.Data(columns=columns)),
        ("parquet", "parquet", settings.Data(columns=columns)),
        ("derived ids", "csv", settings.Data(columns=derived, refunds="absolute", missing_cards="reject")),
        ("derived ids of parquet", "parquet", settings.Data(columns=derived, refunds="exclude")),
        (
            "foreign",
            "foreign",
            settings.Data(columns=settings.Columns(label_available_at=("day", "clock")), format=FOREIGN),
        ),
        ("foreign parquet", "foreign parquet", settings.Data(columns=ALL, format=FOREIGN)),
        ("small", "small", settings.Data(columns=LABEL_TABLE, labels=labels)),
    ):
        transactions = read_transactions(spark, data, f"{folder}/{place}", CLOCK)
        found[form] = told(transactions)
        if form in {"parquet", "derived ids", "small"}:
            with from_store(spark, data, f"{folder}/{place}") as stored:
                assert told(stored) == found[form], form
    assert transactions.rejected is not None
    bad = transactions.rejected.select("transaction_id", "reason").collect()
    shown = [F.col(name).cast("string") for name in transactions.table.columns]
    found["rows"] = {
        "good": sorted(str(tuple(r)) for r in transactions.table.select(*shown).collect()),
        "bad": sorted(f"{r['transaction_id']} {r['reason']}" for r in bad),
    }
    for name in ("torn", "absent"):
        try:
            read_transactions(spark, settings.Data(), f"{folder}/{name}", CLOCK)
        except DataError as error:
            found[name] = {"error": str(error)}
    return found


@pytest.mark.slow
def test_both_engines_find_the_same(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when a laptop trains on other data than a cluster: Sail and Spark read alike, from files and the store."""
    random = np.random.default_rng(7)
    rows = []
    for number in range(300):
        change = CASES[number // 3 % len(CASES)][1] if number % 3 == 0 else {}
        late = NOON + timedelta(minutes=int(random.integers(6000)), microseconds=int(random.integers(1000)))
        good = row(int(number * 0.9), transaction_time=late, fraud=int(random.integers(2)), v=number - 20.5, k="é")
        good |= {
            "stopped": int(number % 4 == 1),
            "amount": round(float(random.lognormal(3, 2)), 2),
            "label_available_at": late + timedelta(hours=number),
        }
        rows.append(good | {"v": None if number % 7 == 0 else -0.0, "k": None if number % 5 == 0 else "é"} | change)
    write_csv(tmp_path / "csv" / "a.csv", rows[:150])
    write_csv(tmp_path / "csv" / "deep" / "b.csv", rows[150:])
    with (tmp_path / "csv" / "a.csv").open("a") as file:
        file.write("broken,line\n")
    write_parquet(tmp_path / "parquet" / "day=1" / "a.parquet", rows[:100], fraud=pa.int8(), customer_id=pa.int16())
    write_parquet(tmp_path / "parquet" / "[a] %20 b.parquet", rows[100:200], transaction_time=pa.timestamp("ns"))
    old = pa.Table.from_pylist(rows[200:])
    pq.write_table(old, tmp_path / "parquet" / "c.parquet", use_deprecated_int96_timestamps=True)
    write_parquet(
        tmp_path / "small" / "a.parquet", [row(20 + n * 9 // 10, amount=float(10 - n % 11)) for n in range(99)]
    )
    write_csv(tmp_path / "labels" / "a.csv", [label(n % 100, n % 2, n % 7 + 5) for n in range(0, 400, 3)])
    damaged(tmp_path / "torn" / "a.parquet")
    write_foreign(tmp_path)

    here = json.loads(json.dumps(describe(spark, str(tmp_path))))
    # Where a machine stands must not matter. A short run is over before Java's second compiler pays.
    environment = os.environ | {"TZ": "Asia/Tokyo", "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    environment.pop("SPARK_CONNECT_MODE_ENABLED", None)
    command = [sys.executable, __file__, str(tmp_path)]
    there = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert there.returncode == 0, there.stderr[-3000:]
    spark_found = json.loads(there.stdout.splitlines()[-1])
    for part, values in here.items():
        for name, value in values.items():
            if (part, name) != ("torn", "error"):
                assert spark_found[part][name] == value, (part, name)
    assert "torn/a.parquet: " in spark_found["torn"]["error"]
    assert set(here["csv"]["rejected"]) == {*BAD, "broken_line", "duplicate_id"}
    counts = {"unparseable_time": 1, "bad_amount": 1}
    assert here["foreign"]["rejected"] == counts | {"broken_line": 1}
    assert here["foreign parquet"]["rejected"] == counts
    assert "=0" not in here["small"]["labels"].replace("without_id=0", "")


if __name__ == "__main__":
    with session(Engine.SPARK) as apache:
        sys.stdout.write(json.dumps(describe(apache, sys.argv[1])) + "\n")
