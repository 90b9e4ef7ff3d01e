"""The inputs of a model are the same for one row as for a table."""

import math

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fraud_detection.model.encoding import RowEncoder, encode

INPUTS = ("amount", "channel=web", "channel=a%3Db", "V1%5B€%5D", "channel=100%25")
COLUMNS = ("amount", "V1[€]", "channel", "unused")
numbers = st.one_of(st.none(), st.just(math.nan), st.floats(allow_nan=False), st.floats(-1e39, 1e39))


@settings(max_examples=100)
@given(numbers, numbers, st.sampled_from(["web", "a=b", "100%", "shop", "", None]))
def test_a_row_alone_has_the_inputs_that_it_has_in_a_table(
    amount: float | None, other: float | None, channel: str | None
) -> None:
    """Fails when a transaction that is scored alone gets another score than in a batch."""
    row = {"amount": amount, "V1[€]": other, "channel": channel, "unused": None}
    table = pd.DataFrame([row]).astype({"amount": "float64", "V1[€]": "float64", "channel": "object"})
    found = RowEncoder(INPUTS, COLUMNS)(row)
    expected = encode(table, INPUTS)
    assert found.dtype == expected.dtype
    assert_array_equal(found, expected)
