"""When cards were first seen in days that no later moment can change, so that these days are not read for it again."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraud_detection import settings
from fraud_detection.storage import Storage
from fraud_detection.transactions.store.profiles import MEASURE_VERSION

CARD, FIRST = "customer_id", "first_seen"
_FILES = b"files"


@dataclass(frozen=True)
class SeenCards:
    """The cards of good rows in some days."""

    files: frozenset[str]
    """Of these days."""
    cards: pd.DataFrame | None
    """`customer_id`, a card once, and `first_seen` (microseconds since 1970); None without any."""

    def seen_before(self, moment: int, wanted: "pd.Series[Any]") -> NDArray[np.bool_]:
        """Which of some cards were seen before a moment, in microseconds since 1970."""
        if self.cards is None:
            return np.zeros(len(wanted), np.bool_)
        old = self.cards[CARD][(self.cards[FIRST] < moment) & self.cards[CARD].isin(wanted)]
        found: NDArray[np.bool_] = wanted.isin(old).to_numpy()
        return found

    def with_days(self, files: Iterable[str], cards: pd.DataFrame) -> "SeenCards":
        """With the cards of more days.

        Args:
            files: of these days.
            cards: as `cards`.
        """
        if self.cards is not None:
            both = pd.concat([self.cards, cards], ignore_index=True)
            cards = both.sort_values(FIRST, kind="stable").drop_duplicates(CARD, ignore_index=True)
        return SeenCards(self.files.union(files), cards)


NONE = SeenCards(frozenset(), None)


@dataclass(frozen=True)
class KeptCards:
    """Where a store keeps `SeenCards`: one object for each set of rules, read by runs that take a look.

    Of two writers at once one loses the days that it has added, and reads them again.
    """

    storage: Storage
    folder: str  # of the store
    data: settings.Data

    def read(self) -> SeenCards:
        """What is kept."""
        content = self.storage.read(self._name)
        if content is None:
            return NONE
        try:
            found = pq.read_table(io.BytesIO(content))
            return SeenCards(frozenset(json.loads(found.schema.metadata[_FILES])), found.to_pandas())
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):  # damaged: it is made anew
            return NONE

    def keep(self, seen: SeenCards) -> None:
        """Replace what is kept."""
        if seen.cards is None:
            return
        table, text = pa.Table.from_pandas(seen.cards, preserve_index=False), io.BytesIO()
        table = table.replace_schema_metadata({_FILES: json.dumps(sorted(seen.files))})
        pq.write_table(table, text, compression="zstd")
        self.storage.write_atomic(self._name, text.getvalue())

    @property
    def _name(self) -> str:
        said = f"{MEASURE_VERSION} {self.data.model_dump_json()}"
        return f"{self.folder}cards/{hashlib.sha256(said.encode()).hexdigest()[:16]}.parquet"
