"""The input of a run: checked rows from the store, brought up to date first; bad rows go into quarantine."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from fraud_detection.outputs import quarantine_file, store_folder
from fraud_detection.runs.progress import Progress, stored_line
from fraud_detection.runs.request import Request
from fraud_detection.storage import open_folder
from fraud_detection.transactions.forgotten import read_forgotten
from fraud_detection.transactions.quarantine import write_quarantine
from fraud_detection.transactions.reader import Transactions
from fraud_detection.transactions.store.joined import JoinedStore
from fraud_detection.transactions.store.manifest import DamagedStoreError
from fraud_detection.transactions.store.profiles import MeasuredDays
from fraud_detection.transactions.store.rows import Update
from fraud_detection.transactions.stored_reader import read_stored, store_inputs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def read_input(
    spark: "SparkSession",
    request: Request,
    as_of: datetime | None,
    progress: Progress,
    earlier: datetime | None = None,
) -> tuple[Transactions, datetime]:
    """The input as it was known at an as-of time, and that time.

    Args:
        spark: reads the rows.
        request: whose input it is.
        as_of: None: the first whole hour after the newest transaction.
        progress: takes a line if all files were read.
        earlier: measure also what was known at that moment, for `Profile.earlier_fingerprint`.

    Raises:
        DataError: the input cannot be read, or too many of its rows are bad.
        DamagedStoreError: files of the store are lost or damaged time and again.
    """
    output, data = open_folder(request.output), request.settings.data
    stores, sources = open_folder(request.store or request.output), store_inputs(data, request.input_path)
    folder = store_folder(sources[0].key)
    cards = partial(read_forgotten, output)
    store = JoinedStore(stores, folder, sources, lambda: request.clock, cards)
    stored = _update(store, progress)
    measured = MeasuredDays(stores, folder, data)

    def read(as_of: datetime | None) -> Transactions:
        moments = request.clock, as_of, earlier
        return read_stored(spark, data, request.input_path, stored.snapshot, measured, *moments, cards())

    try:
        transactions = read(as_of)
    except DamagedStoreError as error:
        stored = _update(store, progress, error)
        transactions = read(as_of)
    quarantine = write_quarantine(transactions, output, quarantine_file(request.clock))
    transactions.profile.require_share(data.max_rejected_share, quarantine)
    if as_of is None:
        as_of = transactions.profile.default_as_of
        if transactions.profile.reaches(as_of):
            transactions = read(as_of)
            transactions.profile.require_share(data.max_rejected_share, quarantine)
    return transactions, as_of


def _update(store: JoinedStore, progress: Progress, damaged: DamagedStoreError | None = None) -> Update:
    """Bring the store up to date; report that all files were read."""
    found = store.update(damaged)
    if found.rebuilt:
        progress("store", stored_line(found.read_files, found.damaged))
    return found
