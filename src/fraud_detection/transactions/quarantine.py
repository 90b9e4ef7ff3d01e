"""Quarantined rows: bad rows, kept for the owner of the data to look at and to correct."""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fraud_detection.storage import Storage
from fraud_detection.transactions.reader import Transactions

MAX_ROWS = 500_000
"""The most rows that are written; the report has the exact counts."""


# OWASP, CSV Injection. A spreadsheet may overlook white space before the sign, and takes the wide form for the sign.
_FORMULA = r"^(\s*[=+\-@＝＋－＠]|[\t\r\n'])"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def write_quarantine(transactions: Transactions, output: Storage, name: str) -> str | None:
    """Write the rejected rows to the file `name`, whole or not at all, and return its path or URL.

    None where no row was rejected. At most `MAX_ROWS` are written.

    Raises:
        FraudDetectionError: the output cannot be written.
    """
    if transactions.rejected is None:
        return None
    rows = transactions.rejected.limit(MAX_ROWS).toPandas()
    columns = [_harmless(pa.array(rows[name], pa.string(), from_pandas=True)) for name in rows]
    text = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns, _harmless(pa.array(list(rows))).to_pylist()), text)
    return output.write_atomic(name, text.getvalue())


def _harmless(texts: pa.StringArray) -> pa.StringArray:
    """Texts that a spreadsheet does not run: an apostrophe before those that begin like a formula and are no number.

    Texts that begin with an apostrophe get one more, so leaving out the first one always gives the original.
    """
    formula = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
    return pc.if_else(pc.fill_null(formula, False), pc.binary_join_element_wise("'", texts, ""), texts)
