"""What was counted of a champion's reference for drift, kept until rows, labels or the champion change.

The reference lies weeks back, so hourly runs would count the same rows each time.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fraud_detection.features.between import features_key_of, features_place
from fraud_detection.model.model import Model
from fraud_detection.schema import ShiftedSample, Stored
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage
from fraud_detection.transactions.reader import Transactions

COUNTS_VERSION = 1
"""Of what is counted: another one counts anew."""
_NAMES = ("name", "bin", "rows")


@dataclass(frozen=True, eq=False)
class Counted:
    """The rows of a sample and their bins (`model.bin_counts.count_bins`)."""

    sample: ShiftedSample
    bins: pd.DataFrame


class _Kept(Stored):
    key: str
    sample: ShiftedSample
    bins: tuple[tuple[int, ...], ...]  # a tuple for each of `_NAMES`


def keep_counts(
    transactions: Transactions,
    settings: Settings,
    model: Model,
    missing: Sequence[str],
    span: tuple[datetime, datetime],
    count: Callable[[], Counted],
) -> Counted:
    """What `count` gives; what it gave before where nothing that it depends on has changed.

    Args:
        transactions: as known at the as-of time.
        settings: of the run.
        model: the champion.
        missing: columns that it reads and the data no longer have.
        span: of the reference; half open.
        count: counts it.

    Raises:
        FraudDetectionError: the store cannot be read or written.
    """
    rows_key = features_key_of(transactions, settings, *span)
    place = features_place(transactions, settings)
    if rows_key is None or place is None:
        return count()
    storage, folder = place
    said = f"{COUNTS_VERSION} {rows_key} {hashlib.sha256(model.to_bytes()).hexdigest()} {sorted(missing)}"
    key = hashlib.sha256(said.encode()).hexdigest()
    name = f"{folder}reference/{settings.model_name}.json.gz"
    kept = _read(storage, name)
    if kept is not None and kept.key == key:
        columns = {column: np.array(values, np.int64) for column, values in zip(_NAMES, kept.bins, strict=True)}
        return Counted(kept.sample, pd.DataFrame(columns))
    found = count()
    kept = _Kept(key=key, sample=found.sample, bins=tuple(tuple(map(int, found.bins[column])) for column in _NAMES))
    storage.write_atomic(name, gzip.compress(kept.model_dump_json().encode(), mtime=0))
    return found


def _read(storage: Storage, name: str) -> _Kept | None:
    """What was kept; None where nothing was, or it is damaged."""
    content = storage.read(name)
    try:
        return _Kept.model_validate_json(gzip.decompress(content)) if content else None
    except (ValidationError, OSError, EOFError, zlib.error):
        return None
