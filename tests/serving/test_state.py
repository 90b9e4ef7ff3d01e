"""Features while serving equal those of the batch over what had arrived, bit for bit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from reference_features import DAY, Transaction

from fraud_detection.features.arrow import codes_of
from fraud_detection.features.cards import card_features
from fraud_detection.features.definitions import LOOK_BACK
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.labels import NEVER, UNKNOWN, Labels
from fraud_detection.serving.rows import Key
from fraud_detection.serving.state import Arrival, FeatureState, Mapped

DELAY = 7 * DAY
EVERYTHING = -(10**15)
BOTH = Mapped(card=True, terminal=True, label_delay=DELAY)
NO_KEY = -1

times = st.builds(lambda half_days, jitter: half_days * DAY // 2 + jitter, st.integers(2, 200), st.integers(-1, 1))
keys = st.sampled_from([0, 0, 0, 1, 1, 2, NO_KEY])
cents = st.sampled_from([0, 1, 100, 250, 251, 999, 5000, 10**14])
label_delays = st.one_of(st.none(), st.integers(0, 80).map(lambda half_days: half_days * DAY // 2))
label_lists = st.lists(st.tuples(label_delays, st.booleans()), max_size=3, unique_by=lambda label: label[0])


@st.composite
def worlds(draw: st.DrawFn, most: int = 30) -> list[Transaction]:
    """Transactions in the order of their arrival, which is not that of their times; some without card or terminal."""
    rows = draw(st.lists(st.tuples(times, keys, keys, cents, label_lists), min_size=1, max_size=most))
    ids = draw(st.permutations(range(len(rows))))
    return [
        made(Transaction(i, time, card, terminal, amount), [(None if d is None else time + d, f) for d, f in labels])
        for i, (time, card, terminal, amount, labels) in zip(ids, rows, strict=True)
    ]


def made(row: Transaction, labels: list[tuple[int | None, bool]]) -> Transaction:
    """The transaction with labels, those without a time first."""
    if not labels:
        return row
    *earlier, (available, fraud) = sorted(labels, key=lambda label: -1 if label[0] is None else label[0])
    return replace(row, fraud=fraud, available=available, earlier=tuple(earlier))


def table_of(rows: list[Transaction], *, text: bool = False) -> pa.Table:
    """The canonical table of transactions with their labels."""

    def key(values: list[int]) -> pa.Array:
        known = [None if value == NO_KEY else f"k{value:03d}" if text else value for value in values]
        return pa.array(known, pa.string() if text else pa.int64())

    stamp = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "transaction_id": key([row.id for row in rows]),
            "transaction_time": pa.array([row.time for row in rows], pa.int64()).cast(stamp),
            "amount": pa.array([row.cents / 100 for row in rows], pa.float64()),
            "fraud": pa.array([row.fraud for row in rows]).cast(pa.int8()),
            "customer_id": key([row.card for row in rows]),
            "terminal_id": key([row.terminal for row in rows]),
            "label_available_at": pa.array([row.available for row in rows], pa.int64()).cast(stamp),
            "label_history": pa.array([history(row) for row in rows], pa.string()),
        }
    )


def history(row: Transaction) -> str | None:
    """`label_history` of a transaction with several labels."""
    labels = [*row.earlier, (row.available, row.fraud)]
    if not row.earlier:
        return None
    return " ".join(f"{0 if came is None else max(came, 1):019d}={int(fraud)}" for came, fraud in labels)


def arrival(row: Transaction, *, text: bool = False) -> Arrival:
    """The transaction without its labels, as a request has it."""

    def key(value: int) -> Key | None:
        return None if value == NO_KEY else f"k{value:03d}" if text else value

    number = key(row.id)
    assert number is not None
    return Arrival(number, row.time, row.cents / 100, key(row.card), key(row.terminal))


def batch_features(table: pa.Table, identifier: Key, mapped: Mapped = BOTH) -> dict[str, float]:
    """What the kernels give for one row of a table, chained as by the plan."""
    found: dict[str, float] = {}
    time = table["transaction_time"].cast(pa.int64()).to_numpy()
    ids = table["transaction_id"].to_numpy()
    amounts = np.rint(np.minimum(table["amount"].to_numpy(), 1e12) * 100).astype(np.int64)
    available = table["label_available_at"].cast(pa.int64()).fill_null(NEVER).to_numpy()
    fraud = table["fraud"].fill_null(UNKNOWN).to_numpy()
    spans = Labels.of(time, fraud, available, table["label_history"].combine_chunks(), mapped.label_delay).fraud_spans()
    frauds = KnownFrauds(*spans, (spans[0] != NEVER).any(axis=0), amounts, np.full(len(ids), np.nan))
    if mapped.card:
        cards = codes_of(table["customer_id"])
        first = card_features(
            cards, time, ids, amounts, spans[0].min(axis=0), EVERYTHING, EVERYTHING - LOOK_BACK, mapped.label_delay
        )
        place = np.flatnonzero(ids[first.positions] == identifier)[0]
        found |= {name: float(values[place]) for name, values in first.features.items()}
        order = np.argsort(first.positions)
        frauds = KnownFrauds(*spans, first.unexplained[order], amounts, first.to_median[order])
    if mapped.terminal:
        terminals = codes_of(table["terminal_id"])
        second = terminal_features(terminals, time, ids, frauds, EVERYTHING, mapped.label_delay)
        place = np.flatnonzero(ids[second.positions] == identifier)[0]
        found |= {name: float(values[place]) for name, values in second.features.items()}
    return found


def assert_served_as_batch(state: FeatureState, row: Arrival, arrived: pa.Table, mapped: Mapped = BOTH) -> None:
    """Bit for bit, missing values included."""
    expected = batch_features(arrived, row.id, mapped)
    assert_identical({name: value for name, value in state.features(row).items() if name in expected}, expected)


def assert_identical(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    assert_array_equal(list(found.values()), [expected[name] for name in found], err_msg=str(list(found)))


@settings(max_examples=20, deadline=None)
@given(worlds(), st.integers(0, 30), st.booleans(), st.sampled_from([(True, True), (True, False), (False, True)]))
def test_features_equal_the_batch_over_what_had_arrived(
    rows: list[Transaction], loaded: int, text: bool, keys: tuple[bool, bool]
) -> None:
    """Fails when a transaction is scored online with other features than the batch computes, late arrivals included."""
    mapped = Mapped(*keys, label_delay=DELAY)
    state = FeatureState(table_of(rows[:loaded], text=text), mapped)
    arrived = rows[:loaded]
    for row in rows[loaded:]:
        arrived.append(replace(row, fraud=False, available=None, earlier=()))
        assert_served_as_batch(state, arrival(row, text=text), table_of(arrived, text=text), mapped)
        before = state.features(arrival(row, text=text))
        assert state.add(arrival(row, text=text))
        assert_identical(state.features(arrival(row, text=text)), before)


@settings(max_examples=15, deadline=None)
@given(worlds(), st.integers(0, 30), st.integers(0, 30))
def test_labels_arrive_with_the_store(rows: list[Transaction], first: int, second: int) -> None:
    """Fails when a fraud that a new manifest brings is not seen at its terminal, or rows that it lacks are lost."""
    first, second = sorted((first % len(rows), second % len(rows)))
    seen = [*rows[:first], *(replace(row, fraud=False, available=None, earlier=()) for row in rows[first:second])]
    state = FeatureState(table_of(rows[:first]), BOTH)
    for row in seen[first:]:
        state.add(arrival(row))
    for row in rows[:second]:
        assert_served_as_batch(state, arrival(row), table_of(seen))
    after = FeatureState(table_of(rows[:second]), BOTH)
    for row in rows[:second]:
        assert_served_as_batch(after, arrival(row), table_of(rows[:second]))


@settings(max_examples=15, deadline=None)
@given(worlds(), st.integers(0, 30))
def test_a_repeated_transaction_counts_once(rows: list[Transaction], loaded: int) -> None:
    """Fails when a client that repeats a request after a time-out changes the features of its card."""
    rows = [row for row in rows if row.card != NO_KEY or row.terminal != NO_KEY]
    state = FeatureState(table_of(rows[:loaded]), BOTH)
    for row in rows[loaded:]:
        state.add(arrival(row))
    before = [state.features(arrival(row)) for row in rows]
    assert not any(state.add(arrival(row)) for row in rows)
    for row, features in zip(rows, before, strict=True):
        assert_identical(state.features(arrival(row)), features)


def test_only_rows_that_the_store_lacks_are_missing() -> None:
    """Fails when the journal forgets a transaction before the store has it."""
    rows = [Transaction(i, i * DAY, 0, 0, 100) for i in range(4)]
    state = FeatureState(table_of(rows[:2]), BOTH)
    assert state.missing([0, 1, 2, 3]) == {2, 3}
