"""The feature kernels equal their plain definitions, never use the future, and treat each key independently."""

from collections.abc import Iterable
from dataclasses import replace
from time import process_time

import numpy as np
import pyarrow as pa
import pytest
import reference_features
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference_features import DAY, Transaction

from fraud_detection.features import order_statistics, timeline
from fraud_detection.features.calendar import calendar_features
from fraud_detection.features.cards import card_features
from fraud_detection.features.definitions import CARD_FEATURES, LOOK_BACK
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.features.timeline import Floats, Ints, time_order
from fraud_detection.labels import NEVER, Labels

DELAY = 7 * DAY
BEGINNING = -(10**18)
Table = dict[str, dict[int, float]]
"""Feature → transaction id → value."""

# Half days meet window bounds and each other exactly; a microsecond more or less just misses them.
times = st.builds(lambda half_days, jitter: half_days * DAY // 2 + jitter, st.integers(0, 200), st.integers(-1, 1))
hot_keys = st.sampled_from([0, 0, 0, 0, 1, 1, 2])
amounts = st.sampled_from([0, 1, 100, 200, 250, 251, 999, 1000, 5000, 10**14])
label_delays = st.one_of(st.none(), st.integers(0, 120).map(lambda half_days: half_days * DAY // 2))


label_lists = st.one_of(
    st.lists(st.tuples(label_delays, st.booleans()), min_size=1, max_size=1),
    st.lists(st.tuples(label_delays, st.booleans()), min_size=2, max_size=4, unique_by=lambda label: label[0]),
)


@st.composite
def transactions(draw: st.DrawFn, most: int = 40) -> list[Transaction]:
    """Few keys, many ties, labels at once, on time, late and never, some of them corrected once or more."""
    rows = draw(st.lists(st.tuples(times, hot_keys, hot_keys, amounts, label_lists), min_size=1, max_size=most))
    ids = draw(st.permutations(range(len(rows))))
    return [
        made(Transaction(i, time, card, terminal, cents), [(None if d is None else time + d, f) for d, f in labels])
        for i, (time, card, terminal, cents, labels) in zip(ids, rows, strict=True)
    ]


@st.composite
def judged_frauds(draw: st.DrawFn) -> list[Transaction]:
    """A card of small amounts with a fraud that its large ones may explain, before it or until its label is known.

    Another card comes to the terminals meanwhile. It sees how the fraud is judged.
    """
    fraud = Transaction(2, 25 * DAY, 0, 0, 100)
    moments = st.integers(-20, 30).map(lambda half_days: fraud.time + half_days * DAY // 2)
    spending = draw(st.lists(st.tuples(moments, st.sampled_from([100, 5000, 5000])), min_size=1, max_size=6))
    seeing = draw(st.lists(moments, min_size=1, max_size=6))
    delays = st.one_of(st.none(), st.integers(0, 20).map(lambda half_days: fraud.time + half_days * DAY // 2))
    labels = st.tuples(delays, st.sampled_from([True, True, False]))
    rows = [Transaction(0, 0, 0, 1, 100), Transaction(1, DAY, 0, 1, 100)]
    rows += [Transaction(10 + i, time, 0, 1, cents) for i, (time, cents) in enumerate(spending)]
    rows += [Transaction(20 + i, time, 1, 0, 100) for i, time in enumerate(seeing)]
    return [*rows, made(fraud, draw(st.lists(labels, min_size=1, max_size=3, unique_by=lambda label: label[0])))]


def made(row: Transaction, labels: list[tuple[int | None, bool]]) -> Transaction:
    """The transaction with labels, those without a time first."""
    *earlier, (available, fraud) = sorted(labels, key=lambda label: -1 if label[0] is None else label[0])
    return replace(row, fraud=fraud, available=available, earlier=tuple(earlier))


def computed(rows: list[Transaction], start: int = BEGINNING, delay: int = DELAY) -> Table:
    """Both stages of the kernels, chained as by the plan."""
    time, cents = _ints(row.time for row in rows), _ints(row.cents for row in rows)
    ids = _ints(row.id for row in rows)
    cards, terminals = _ints(row.card for row in rows), _ints(row.terminal for row in rows)
    labels = labels_of(rows, delay)

    keep_from = start - delay - LOOK_BACK
    known, until = labels.fraud_spans()
    first = card_features(cards, time, ids, cents, known.min(axis=0), start, keep_from, delay)
    at = first.positions
    known, until = known[:, at], None if until is None else until[:, at]
    frauds = KnownFrauds(known, until, first.unexplained, cents[at], first.to_median)
    second = terminal_features(terminals[at], time[at], ids[at], frauds, start, delay)
    table = _by_id(ids[at], first.features) | _by_id(ids[at][second.positions], second.features)
    wanted = {row.id for row in rows if row.time >= start}
    return {name: {i: value for i, value in values.items() if i in wanted} for name, values in table.items()}


def labels_of(rows: list[Transaction], delay: int) -> Labels:
    """The labels in the form of the canonical table."""
    available = _ints(NEVER if row.available is None else row.available for row in rows)
    fraud = np.array([row.fraud for row in rows], dtype=np.int8)
    history = pa.array([_history(row) for row in rows], pa.string())
    return Labels.of(_ints(row.time for row in rows), fraud, available, history, delay)


def _history(row: Transaction) -> str | None:
    """`label_history` of a transaction with several labels."""
    if not row.earlier:
        return None
    return " ".join(
        f"{0 if came is None else max(came, 1):019d}={int(fraud)}" for came, fraud in reference_features.labels_of(row)
    )


def _by_id(ids: Ints, features: dict[str, Floats]) -> Table:
    return {name: dict(zip(ids.tolist(), values.tolist(), strict=True)) for name, values in features.items()}


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def assert_identical(found: Table, expected: Table) -> None:
    """Bit for bit, missing values included."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].keys() == values.keys()
        assert_array_equal([found[name][i] for i in values], list(values.values()), err_msg=name)


@settings(max_examples=300, deadline=None)
@given(st.one_of(transactions(), judged_frauds()), st.integers(1, 10))
def test_features_equal_their_plain_definition(rows: list[Transaction], delay_days: int) -> None:
    """Fails when a model is trained on something else than the documented features."""
    table = computed(rows, delay=delay_days * DAY)
    for row in rows:
        expected = reference_features.card_features(row, rows)
        expected |= reference_features.terminal_features(row, rows, delay_days * DAY)
        assert expected.keys() == table.keys()
        found = {name: table[name][row.id] for name in expected}
        assert_allclose(list(found.values()), list(expected.values()), rtol=1e-9, err_msg=f"{row}\n{list(found)}")


@settings(max_examples=200, deadline=None)
@given(st.one_of(transactions(most=25), judged_frauds()), transactions(most=10), st.integers(0, 24))
def test_the_future_never_changes_the_past(rows: list[Transaction], later: list[Transaction], at: int) -> None:
    """Fails when a feature uses later data, so that a model looks better in the report than in service."""
    now = sorted(row.time for row in rows)[at % len(rows)]
    past = [row for row in rows if row.time <= now]
    # What is learnt after `now`: other rows, and corrections in place of the labels that come only then.
    other = [_corrected(row, now, now + 1 + row.cents) for row in past]
    future = [
        Transaction(1000 + row.id, now + 1 + row.time + DAY, row.card, row.terminal, row.cents, row.fraud)
        for row in later
    ]
    future += [row for row in rows if row.time > now]
    assert_identical(_of(computed(other + future), past), computed(past))


def _corrected(row: Transaction, now: int, later: int) -> Transaction:
    """The labels known at `now`, followed by the opposite of the last one."""
    known = [
        (came, fraud)
        for came, fraud in reference_features.labels_of(row)
        if reference_features.known_time(row, came, DELAY) <= now
    ]
    return made(row, [*known, (later, not row.fraud)])


@settings(max_examples=100, deadline=None)
@given(transactions(), st.integers(0, 39))
def test_rows_beyond_the_look_back_do_not_matter(rows: list[Transaction], at: int) -> None:
    """Fails when a feature changes with the start of the history that a run reads."""
    start = rows[at % len(rows)].time
    history = start - DELAY - 2 * LOOK_BACK
    kept = [row for row in rows if row.time >= history]
    wanted = [row for row in rows if row.time >= start]
    assert_identical(computed(kept, start), _of(computed(rows), wanted))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_values_do_not_depend_on_the_company_of_other_keys(data: st.DataObject) -> None:
    """Fails when another engine or number of cores, which group keys differently, gives another model."""
    rows = data.draw(transactions())
    whole = computed(rows)
    assert_identical(_of(computed(data.draw(st.permutations(rows))), rows), whole)
    for card in {row.card for row in rows}:
        alone = [row for row in rows if row.card == card]
        assert_identical(_of_cards(computed(alone)), _of(_of_cards(whole), alone))


def _of_cards(table: Table) -> Table:
    return {name: table[name] for name in CARD_FEATURES}


def _of(table: Table, rows: list[Transaction]) -> Table:
    return {name: {row.id: values[row.id] for row in rows} for name, values in table.items()}


@pytest.mark.parametrize(("second", "unexplained"), [(11.5, 0), (12.5, 1)])
def test_a_fraud_is_judged_by_what_its_card_did_until_its_label_was_known(second: float, unexplained: int) -> None:
    """Fails when a leaked card speaks against the terminal of its first fraud, or is judged by what came later."""
    days = [(0, 1, 0), (10, 0, 100), (11, 1, 5000), (second, 1, 5000)]
    rows = [Transaction(i, int(day * DAY), 0, terminal, cents or 100) for i, (day, terminal, cents) in enumerate(days)]
    rows[1] = replace(rows[1], fraud=True, available=12 * DAY)
    visits = [Transaction(10 + day, day * DAY, 1, 0, 100) for day in (11, 13, 20)]
    count = computed(rows + visits)["terminal_unexplained_count_30d"]
    assert [count[row.id] for row in visits] == [0, unexplained, unexplained]


def test_blocks_of_keys_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when features change at the border between two blocks of keys."""
    random = np.random.default_rng(0)
    moments, cents = random.integers(0, 80 * DAY, 600).tolist(), random.integers(0, 9000, 600).tolist()
    cards, terminals = random.integers(0, 40, 600).tolist(), random.integers(0, 20, 600).tolist()
    frauds = (random.random(600) < 0.2).tolist()
    rows = [Transaction(i, *row) for i, row in enumerate(zip(moments, cards, terminals, cents, frauds, strict=True))]
    whole = computed(rows)
    monkeypatch.setattr(timeline, "BLOCK_ROWS", 50)
    assert_identical(_of(computed(rows), rows), _of(whole, rows))
    monkeypatch.setattr(timeline, "_CODES", 200 * DAY)
    assert_identical(_of(computed(rows), rows), _of(whole, rows))


@settings(max_examples=50, deadline=None)
@given(transactions())
def test_few_and_many_rows_have_the_same_order_statistics(rows: list[Transaction]) -> None:
    """Fails when a transaction that is served with the few rows of its card has other features than in a batch."""
    alone = computed(rows)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(order_statistics, "_FEW", -1)
        assert_identical(alone, computed(rows))


def test_no_rows_give_no_features() -> None:
    """Fails when an empty partition stops the job."""
    none = np.zeros(0, dtype=np.int64)
    found = card_features(none, none, none, none, none, 0, 0, DELAY)
    assert len(found.positions) == 0
    assert all(len(values) == 0 for values in found.features.values())
    nothing = KnownFrauds(none, None, none == 0, none, none.astype(np.float64))
    assert len(terminal_features(none, none, none, nothing, 0, DELAY).positions) == 0


def test_string_ids_break_ties() -> None:
    """Fails when a card's transactions in the same second are not ordered by id, and their features vary."""
    same = np.zeros(3, dtype=np.int64)
    ids = np.array(["b", "c", "a"], dtype=object)
    assert time_order(same, same, ids).tolist() == [2, 0, 1]


def test_a_hot_card_is_not_quadratic() -> None:
    """Fails when one card with 100,000 transactions holds up a run for minutes."""

    n = 100_000
    random = np.random.default_rng(0)
    moments = np.sort(random.integers(0, 30 * DAY, n))
    cents = random.integers(1, 10**6, n)
    fraud = random.random(n) < 0.3
    key, ids = np.zeros(n, dtype=np.int64), np.arange(n)
    began = process_time()
    late = moments + random.integers(0, 30 * DAY, n)
    known = np.where(fraud, late, NEVER)
    until = np.where(fraud, late + random.integers(1, 30 * DAY, n), NEVER)
    cards = card_features(key, moments, ids, cents, known, BEGINNING, BEGINNING, DELAY)
    frauds = KnownFrauds(known, until, cards.unexplained, cents, cards.to_median)
    terminal_features(key, moments, ids, frauds, BEGINNING, DELAY)
    assert process_time() - began < 10


def test_night_and_weekend_follow_the_calendar() -> None:
    """Fails when night and weekend are not those of UTC."""
    moments = np.array(
        ["2018-04-07T06:59", "2018-04-06T07:00", "2018-04-09T00:00", "1969-12-28T23:59"], "datetime64[us]"
    )
    found = calendar_features(moments.astype(np.int64))
    assert found["night"].tolist() == [1, 0, 1, 0]
    assert found["weekend"].tolist() == [1, 0, 0, 1]
