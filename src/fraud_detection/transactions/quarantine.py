"""Quarantined rows: bad rows, kept for the owner of the data to look at and to correct."""

import io

import pyarrow as pa
import pyarrow.csv

from fraud_detection.storage import Storage
from fraud_detection.transactions.reader import Transactions
from fraud_detection.transactions.spreadsheets import harmless_texts

MAX_ROWS = 500_000
"""The most rows that are written; the report has the exact counts."""


def write_quarantine(transactions: Transactions, output: Storage, name: str) -> str | None:
    """Write the rejected rows to the file `name`, whole or not at all, and return its path or URL.

    None where no row was rejected. At most `MAX_ROWS` are written.

    Raises:
        FraudDetectionError: the output cannot be written.
    """
    if transactions.rejected is None:
        return None
    rows = transactions.rejected.limit(MAX_ROWS).toPandas()
    columns = [harmless_texts(pa.array(rows[name], pa.string(), from_pandas=True)) for name in rows]
    text = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns, harmless_texts(pa.array(list(rows))).to_pylist()), text)
    return output.write_atomic(name, text.getvalue())
