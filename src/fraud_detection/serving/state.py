"""The features of single transactions as they arrive, equal to those of the batch over the same rows, bit for bit.

There is no second formula. For each transaction the kernels of `features` run on the rows of its card and of its
terminal that a feature can depend on: some hundreds, found by binary search. Rows that were loaded are sorted by card
and time; rows that arrived since are listed for each key. Labels come with the loaded rows alone.

How a fraud is judged by its card's own spending is computed for all frauds when they are loaded. It is computed again
only for those whose card got a row from before the judgement.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_detection.features.arrow import labels_of, times_of
from fraud_detection.features.calendar import calendar_features
from fraud_detection.features.cards import card_features, to_cents
from fraud_detection.features.definitions import LOOK_BACK
from fraud_detection.features.terminals import KnownFrauds, terminal_features
from fraud_detection.features.timeline import Bools, ComputedFeatures, Floats, Ints
from fraud_detection.labels import NEVER
from fraud_detection.serving.rows import ArrivedRows, Key, KeyIndex, Keys, LoadedRows

_BEYOND = int(np.iinfo(np.int64).max // 2)
"""Later than any transaction."""


@dataclass(frozen=True)
class Arrival:
    """A transaction as it arrives; time in microseconds since 1970. An unknown card or terminal is None."""

    id: Key
    time: int
    amount: float
    card: Key | None = None
    terminal: Key | None = None


@dataclass(frozen=True)
class Mapped:
    """What the settings say of the columns."""

    card: bool
    terminal: bool
    label_delay: int
    """In microseconds, at least 1."""


class FeatureState:
    """The rows that features of new transactions can depend on: those of a store, and those that arrived since."""

    def __init__(self, rows: pa.Table, mapped: Mapped) -> None:
        """Load rows of the canonical table.

        Args:
            rows: transaction_id, transaction_time, amount, fraud, [customer_id], [terminal_id], [label_available_at],
                [label_history].
            mapped: which of the keys there are.
        """
        self._mapped = mapped
        self._card_keys = Keys(rows["customer_id"] if mapped.card else None, rows.num_rows)
        self._terminal_keys = Keys(rows["terminal_id"] if mapped.terminal else None, rows.num_rows)
        cards, terminals = self._card_keys.codes, self._terminal_keys.codes
        times = times_of(rows["transaction_time"])
        order = np.lexsort((times, cards))
        self._loaded = LoadedRows(
            times[order],
            to_cents(rows["amount"].to_numpy())[order],
            rows["transaction_id"].combine_chunks().take(order),
        )
        self._arrived = ArrivedRows()
        self._cards = KeyIndex(cards[order], None)
        terminals = terminals[order]
        by_terminal = np.lexsort((self._loaded.times, terminals))
        self._terminals = KeyIndex(terminals[by_terminal], by_terminal.astype(np.int32))
        self._frauds = _Judged(_fraud_spans(rows, mapped.label_delay, order), len(times))
        self._judge_all(cards[order])

    @property
    def loaded(self) -> int:
        """How many rows were loaded."""
        return len(self._loaded.times)

    @property
    def arrived(self) -> int:
        """How many rows have arrived since."""
        return len(self._arrived.ids)

    @property
    def cards(self) -> int:
        """How many cards are known."""
        return len(self._card_keys)

    @property
    def newest(self) -> int | None:
        """The time of the newest row that was loaded; None without any."""
        return int(self._loaded.times.max()) if self.loaded else None

    @property
    def nbytes(self) -> int:
        """The memory of the loaded rows, in bytes, without the tables of keys."""
        return self._loaded.nbytes + self._cards.nbytes + self._terminals.nbytes + self._frauds.nbytes

    def features(self, transaction: Arrival) -> dict[str, float]:
        """The computed features but `amount`, NaN where they are missing: what the batch gives over the rows so far.

        It makes no difference whether the transaction itself was added.
        """
        values = {name: float(column[0]) for name, column in calendar_features(np.array([transaction.time])).items()}
        if self._mapped.card:
            values |= self._of_card(transaction)
        if self._mapped.terminal:
            values |= self._of_terminal(transaction)
        return values

    def add(self, transaction: Arrival) -> bool:
        """Let later transactions see this one; False, and nothing is added, if it is there already."""
        if self.holds(transaction):
            return False
        row = self.loaded + self._arrived.add(transaction.id, transaction.time, _cents(transaction.amount))
        if self._mapped.card and transaction.card is not None:
            card = self._card_keys.give(transaction.card)
            self._cards.add(card, row)
            self._frauds.outdate(self._cards.loaded(card), transaction.time)
        if self._mapped.terminal and transaction.terminal is not None:
            self._terminals.add(self._terminal_keys.give(transaction.terminal), row)
        return True

    def holds(self, transaction: Arrival) -> bool:
        """Whether it is there already."""
        return transaction.id in self._arrived.ids or self._is_loaded(transaction)

    def missing(self, ids: Iterable[Key]) -> set[Key]:
        """Those of the ids that no loaded row has."""
        wanted = list(ids)
        found = pc.is_in(pa.array(wanted, self._loaded.ids.type), self._loaded.ids).to_pylist()
        return {one for one, is_loaded in zip(wanted, found, strict=True) if not is_loaded}

    def _of_card(self, transaction: Arrival) -> dict[str, float]:
        at = transaction.time
        found = self._rows(self._cards, self._card_keys.get(transaction.card), at - 2 * LOOK_BACK, transaction)
        times, ids, cents = self._with_own(found, transaction)
        none = np.full(len(times), NEVER)
        keys = np.zeros(len(times), np.int64)
        result = card_features(keys, times, ids, cents, none, at, at, self._mapped.label_delay)
        return _last(result, len(times))

    def _of_terminal(self, transaction: Arrival) -> dict[str, float]:
        at, delay = transaction.time, self._mapped.label_delay
        since = at - delay - LOOK_BACK
        found = self._rows(self._terminals, self._terminal_keys.get(transaction.terminal), since, transaction)
        times, ids, cents = self._with_own(found, transaction)
        self._judge_again(found)
        frauds = self._frauds.of(np.append(found, -1), cents)
        result = terminal_features(np.zeros(len(times), np.int64), times, ids, frauds, at, delay)
        return _last(result, len(times))

    def _rows(self, index: KeyIndex, code: int | None, since: int, transaction: Arrival) -> Ints:
        """The rows of a key in (since, time of the transaction], without the transaction itself."""
        if code is None:
            return np.zeros(0, np.int64)
        loaded = index.between(code, self._loaded.times, since, transaction.time)
        arrived = index.arrived(code)
        times = self._arrived.times[arrived - self.loaded]
        arrived = arrived[(times > since) & (times <= transaction.time)]
        rows: Ints = np.concatenate((loaded, arrived))
        same_time = rows[self._times(rows) == transaction.time]
        repeated = same_time[self._ids(same_time) == transaction.id] if len(same_time) else same_time
        if len(repeated):
            rows = rows[~np.isin(rows, repeated)]
        return rows

    def _with_own(self, rows: Ints, transaction: Arrival) -> tuple[Ints, NDArray[np.generic], Ints]:
        """Times, ids and cents of rows, and of the transaction as the last one."""
        times = np.append(self._times(rows), transaction.time)
        in_order = np.sort(times)
        if (in_order[1:] == in_order[:-1]).any():
            ids = np.empty(len(times), object if isinstance(transaction.id, str) else np.int64)
            ids[:-1], ids[-1] = self._ids(rows), transaction.id
        else:  # without ties no id is looked at
            ids = np.zeros(len(times), np.int64)
        return times, ids, np.append(self._cents(rows), _cents(transaction.amount))

    def _times(self, rows: Ints) -> Ints:
        return self._column(rows, self._loaded.times, self._arrived.times)

    def _cents(self, rows: Ints) -> Ints:
        return self._column(rows, self._loaded.cents, self._arrived.cents)

    def _column(self, rows: Ints, loaded: Ints, arrived: Ints) -> Ints:
        own = rows >= self.loaded
        if not own.any():
            chosen: Ints = loaded[rows]
            return chosen
        return np.concatenate((loaded[rows[~own]], arrived[rows[own] - self.loaded]))  # those that arrived are last

    def _ids(self, rows: Ints) -> NDArray[np.generic]:
        own = rows >= self.loaded
        loaded: NDArray[np.generic] = self._loaded.ids.take(pa.array(rows[~own])).to_numpy(zero_copy_only=False)
        if not own.any():
            return loaded
        arrived = self._arrived.ids_of((rows[own] - self.loaded).tolist())
        return np.concatenate((loaded, np.array(arrived, loaded.dtype)))

    def _is_loaded(self, transaction: Arrival) -> bool:
        """Whether a loaded row of the card, or of the terminal, is this transaction."""
        keys = (
            (self._cards, self._card_keys.get(transaction.card)),
            (self._terminals, self._terminal_keys.get(transaction.terminal)),
        )
        for index, code in keys:
            if code is not None:
                rows = index.between(code, self._loaded.times, transaction.time - 1, transaction.time)
                return len(rows) > 0 and bool((self._ids(rows) == transaction.id).any())
        return False

    def _judge_all(self, cards: Ints) -> None:
        """Judge all frauds by what their cards did; without cards nothing can explain one."""
        frauds = self._frauds
        if not self._mapped.card:
            return
        rows = np.flatnonzero(np.isin(cards, cards[frauds.rows]))
        self._judge(rows, cards[rows])

    def _judge_again(self, rows: Ints) -> None:
        """Judge those frauds among the rows again whose cards have got a row from before the judgement."""
        outdated = [row for row in rows.tolist() if row in self._frauds.outdated] if self._frauds.outdated else []
        for row in outdated:
            card = self._cards.key_of(row)
            own = np.concatenate((self._cards.loaded(card), self._cards.arrived(card)))
            self._judge(own, np.zeros(len(own), np.int64))

    def _judge(self, rows: Ints, cards: Ints) -> None:
        known = self._frauds.first_known(rows)
        times, ids, cents = self._times(rows), self._ids(rows), self._cents(rows)
        delay = self._mapped.label_delay
        result = card_features(cards, times, ids, cents, known, _BEYOND, -_BEYOND, delay)
        at = result.positions
        is_fraud = known[at] != NEVER
        judged = rows[at][is_fraud]
        until = np.minimum(known[at][is_fraud], times[at][is_fraud] + delay)
        self._frauds.judge(judged, result.unexplained[is_fraud], result.to_median[is_fraud], until)


class _Judged:
    """The frauds among the loaded rows: from when until when each is known as one, and how its card explains it."""

    def __init__(self, spans: tuple[Ints, Ints | None], rows: int) -> None:
        known, until = spans
        self.rows: Ints = np.flatnonzero((known != NEVER).any(axis=0))
        self._known = known[:, self.rows]
        self._until = None if until is None else until[:, self.rows]
        self._unexplained = np.ones(len(self.rows), np.bool_)
        self._to_median = np.full(len(self.rows), np.nan)
        self._judged_until = np.full(len(self.rows), -_BEYOND)
        self.outdated: set[int] = set()
        self._of_row = np.full(rows + 1, -1, np.int32)  # the last one is of a row that is not loaded
        self._of_row[self.rows] = np.arange(len(self.rows))

    @property
    def nbytes(self) -> int:
        own = (self.rows, self._known, self._unexplained, self._to_median, self._judged_until, self._of_row)
        return sum(array.nbytes for array in own) + (0 if self._until is None else self._until.nbytes)

    def of(self, rows: Ints, cents: Ints) -> KnownFrauds:
        """What is known of some rows; of those that were not loaded nothing is."""
        number = self._numbers(rows)
        fraud = number >= 0
        unexplained, to_median = fraud.copy(), np.full(len(rows), np.nan)
        unexplained[fraud], to_median[fraud] = self._unexplained[number[fraud]], self._to_median[number[fraud]]
        known = _spread(self._known, number, fraud)
        until = None if self._until is None else _spread(self._until, number, fraud)
        return KnownFrauds(known, until, unexplained, cents, to_median)

    def first_known(self, rows: Ints) -> Ints:
        """When each of the rows is first known as a fraud; NEVER where it is not."""
        number = self._numbers(rows)
        known: Ints = _spread(self._known, number, number >= 0).min(axis=0)
        return known

    def judge(self, rows: Ints, unexplained: Bools, to_median: Floats, until: Ints) -> None:
        """Set how the frauds `rows` are judged, by what their cards did until some time."""
        number = self._of_row[rows]
        self._unexplained[number], self._to_median[number] = unexplained, to_median
        self._judged_until[number] = until
        self.outdated.difference_update(rows.tolist())

    def outdate(self, rows: Ints, time: int) -> None:
        """Note that the card with these loaded rows has got one of that time."""
        number = self._of_row[rows]
        frauds = number[number >= 0]
        self.outdated.update(self.rows[frauds[self._judged_until[frauds] >= time]].tolist())

    def _numbers(self, rows: Ints) -> NDArray[np.int32]:
        last = len(self._of_row) - 1
        numbers: NDArray[np.int32] = self._of_row[np.where((rows < 0) | (rows > last), last, rows)]
        return numbers


def _spread(values: Ints, number: NDArray[np.int32], fraud: Bools) -> Ints:
    found = np.full((len(values), len(number)), NEVER)
    found[:, fraud] = values[:, number[fraud]]
    return found


def _fraud_spans(rows: pa.Table, delay: int, order: NDArray[np.intp]) -> tuple[Ints, Ints | None]:
    known, until = labels_of(rows, delay).fraud_spans()
    return known[:, order], None if until is None else until[:, order]


def _cents(amount: float) -> int:
    return int(to_cents(np.array([amount]))[0])


def _last(result: ComputedFeatures, count: int) -> dict[str, float]:
    """The features of the last of the rows that a kernel was given."""
    place = int(np.flatnonzero(result.positions == count - 1)[0])
    columns: Mapping[str, Floats] = result.features
    return {name: float(values[place]) for name, values in columns.items()}
