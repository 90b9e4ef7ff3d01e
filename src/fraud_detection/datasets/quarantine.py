"""Bad rows put aside, for the owner of the data to look at and to correct."""

import io

import pyarrow as pa
import pyarrow.csv

from fraud_detection.datasets.transactions import Transactions
from fraud_detection.storage import Storage

MAX_ROWS = 500_000
"""Enough to see what is wrong; the report has the exact counts."""


def write_quarantine(transactions: Transactions, output: Storage, name: str) -> str | None:
    """Write the rejected rows as `quarantine/<name>/rejected.csv`, whole or not at all, and return its place.

    None where no row was rejected. At most `MAX_ROWS` are written.

    Raises:
        FraudDetectionError: the output cannot be written.
    """
    if transactions.rejected is None:
        return None
    rows = pa.Table.from_pandas(transactions.rejected.limit(MAX_ROWS).toPandas(), preserve_index=False)
    text = io.BytesIO()
    pyarrow.csv.write_csv(rows, text)
    return output.write(f"quarantine/{name}/rejected.csv", text.getvalue())
