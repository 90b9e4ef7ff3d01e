"""The rows that features of new transactions can depend on, from the store that runs and batches of scores read.

They are read in a process of their own: the engine then takes neither memory nor processor time of the server.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fraud_detection.errors import ServiceUnavailableError
from fraud_detection.features.spans import read_from
from fraud_detection.labels import HISTORY
from fraud_detection.outputs import store_folder
from fraud_detection.runs.reading import read_input
from fraud_detection.runs.request import Request
from fraud_detection.spark_session import session
from fraud_detection.storage import open_folder
from fraud_detection.transactions.forgotten import Forgotten, read_forgotten
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.stored_reader import store_inputs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_MISSING = -(1 << 62)
"""Travels in place of a missing number: with those, pandas would make fractions of whole numbers."""
LATE = timedelta(days=7)
"""How much older than the newest transaction of the store a transaction may be that is scored."""


@dataclass(frozen=True)
class History:
    """What a store holds at one moment, of the days that matter."""

    rows: pa.Table
    """transaction_id, transaction_time, amount, fraud, [label_available_at], [label_history]; mapped keys as text."""
    types: dict[str, str]
    """bigint or string of each id."""
    since: datetime
    """Transactions before it cannot be scored: older rows were not read."""
    manifest: int
    """The state of the store that it is at least from."""
    forgotten: Forgotten
    """Cards that no score may know."""


def newest_manifest(request: Request) -> int:
    """The number of the newest state of the store; 0 before the first one."""
    sources = store_inputs(request.settings.data, request.input_path)
    stores, folder = open_folder(request.store or request.output), store_folder(sources[0].key)
    return JoinedStore(stores, folder, sources, lambda: request.clock).number


def load_history(request: Request) -> History:
    """Bring the store up to date, and read what matters of it, in another process.

    Raises:
        FraudDetectionError: as a batch of scores.
        ServiceUnavailableError: that process was killed.
    """
    return begin_loading(request)()


def begin_loading(request: Request) -> Callable[[], History]:
    """As `load_history`, without waiting: gives what waits for the rows, once."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_the_server)
    rows = pool.submit(read_history, request)

    def wait() -> History:
        with pool:
            try:
                return rows.result()
            except BrokenProcessPool as error:
                raise ServiceUnavailableError(
                    "the process that reads the store was killed; expected it to end by itself; next: give this machine"
                    " more memory, then run this again"
                ) from error

    return wait


def _end_with_the_server() -> None:
    """Let this process end when the server is killed, in whose place it would keep the engine's memory for ever."""
    server = multiprocessing.parent_process()
    assert server is not None  # noqa: S101 - only the pool calls this

    def wait() -> None:
        server.join()
        os._exit(1)

    threading.Thread(target=wait, name="end with the server", daemon=True).start()


def read_history(request: Request) -> History:
    """As `load_history`, in this process."""
    before, settings = newest_manifest(request), request.settings
    with session(request.engine) as spark:
        transactions, _ = read_input(spark, request, request.clock, lambda _step, _line: None)
        stored, newest = transactions.stored, transactions.profile.newest
        manifest = before if stored is None else stored.snapshot.number
        since = newest - LATE
        with transactions.store_errors():
            rows = transactions.between(read_from(settings, since), request.clock)
            types = {name: kind for name, kind in rows.dtypes if name.endswith("_id")}
            return History(_to_arrow(rows, types), types, since, manifest, read_forgotten(open_folder(request.output)))


def _to_arrow(rows: "DataFrame", types: dict[str, str]) -> pa.Table:
    from pyspark.sql import functions as F  # noqa: N812

    stamp = pa.timestamp("us", "UTC")
    columns = {
        "transaction_id": pa.int64() if types["transaction_id"] == "bigint" else pa.string(),
        "transaction_time": stamp,
        "amount": pa.float64(),
        "fraud": pa.int8(),
        "customer_id": pa.string(),
        "terminal_id": pa.string(),
        "label_available_at": stamp,
        HISTORY: pa.string(),
    }
    chosen = {name: kind for name, kind in columns.items() if name in rows.columns}
    taken = []
    for name, kind in chosen.items():
        column = F.col(name)
        if kind == stamp:
            column = F.coalesce(F.unix_micros(column), F.lit(_MISSING))
        elif name == "fraud":
            column = F.coalesce(column.cast("long"), F.lit(_MISSING))
        elif name != "amount" and name != "transaction_id":
            column = column.cast("string")
        taken.append(column.alias(name))
    found = rows.select(*taken).toPandas()
    return pa.table({name: _array(found[name].to_numpy(), kind) for name, kind in chosen.items()})


def _array(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - a column of any type
    if pa.types.is_timestamp(kind) or kind == pa.int8():
        whole = pa.int64() if pa.types.is_timestamp(kind) else kind
        return pa.array(values, mask=values == _MISSING).cast(whole).cast(kind)
    return pa.array(values, kind, from_pandas=True)
