"""The store of an input: its rows, and the labels of its label table if it has one, brought up to date together."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from fraud_detection.storage import Storage
from fraud_detection.transactions.forgotten import Forgotten
from fraud_detection.transactions.store.inputs import StoreInput
from fraud_detection.transactions.store.labels import LabelStore
from fraud_detection.transactions.store.manifest import DamagedStoreError
from fraud_detection.transactions.store.rows import RowStore, Update


class JoinedStore:
    """As `RowStore`; the days of its snapshots say what they hold with the labels of a label table."""

    def __init__(
        self,
        storage: Storage,
        folder: str,
        sources: tuple[StoreInput, StoreInput | None],
        clock: Callable[[], datetime],
        forgotten: Callable[[], Forgotten] = Forgotten,
    ) -> None:
        """Nothing is read yet.

        Args:
            storage: where the store is.
            folder: of this store, its name ending with a slash.
            sources: the transactions, and the label table.
            clock: gives the time, aware.
            forgotten: gives the cards to keep out.
        """
        rows, labels = sources
        self._rows = RowStore(storage, folder, rows, clock, forgotten)
        self._labels = None if labels is None else LabelStore(storage, f"{folder}labels/{labels.key}/", labels, clock)

    @property
    def number(self) -> int:
        """Of the newest state; 0 before the first one. Later states have higher ones."""
        return self._rows.number + (0 if self._labels is None else self._labels.number)

    def update(self, damaged: DamagedStoreError | None = None) -> Update:
        """Read the files that are new or changed, and publish what the input holds now.

        Args:
            damaged: what a reader has found: the files of its part are read anew.

        Raises:
            DataError: there is no data, or a file breaks the contract.
            ServiceUnavailableError: other writers were first each time.
            FraudDetectionError: the output cannot be written.
        """
        of_labels = self._labels is not None and damaged is not None and self._labels.has(damaged.file)
        found = self._rows.update(None if of_labels else damaged)
        if self._labels is None:
            return found
        try:
            labels = self._labels.update(found.snapshot, damaged if of_labels else None)
        except DamagedStoreError as error:
            if found.damaged is not None or self._labels.has(error.file):
                raise
            found = self._rows.update(error)
            labels = self._labels.update(found.snapshot)
        return replace(
            found,
            snapshot=found.snapshot.with_labels(labels.labels),
            read_files=found.read_files + labels.read_files,
            rebuilt=found.rebuilt or labels.rebuilt,
            damaged=found.damaged or labels.damaged,
        )
