"""How the rows of a label table are used, from its store: only days that later moments show otherwise are read."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.transactions.columns import KEY
from fraud_detection.transactions.profile import LabelTableProfile
from fraud_detection.transactions.store.days import TIME, hashes
from fraud_detection.transactions.store.labels import StoredLabels
from fraud_detection.transactions.store.manifest import Day
from fraud_detection.transactions.store.placing import AVAILABLE, HASH, with_hashes, without_copies
from fraud_detection.transactions.store.profiles import is_settled, to_micros
from fraud_detection.transactions.store.repeats import UInts
from fraud_detection.transactions.store.rows import Snapshot, read_day
from fraud_detection.transactions.view import View

_HOUR = 3_600_000_000


def count_labels(labels: StoredLabels, rows: Snapshot, view: View, shared: set[int]) -> LabelTableProfile:
    """The labels that a view shows, those without an id, and those whose transaction it does not show.

    A moment within an hour counts waiting labels as the beginning of the hour does.

    Args:
        labels: of the label table.
        rows: the transactions.
        view: what is seen of them.
        shared: days that have ids of other days.

    Raises:
        DamagedStoreError: a file of the store is lost or damaged.
    """
    open_days, shared = list[Day](), shared.union(labels.manifest.beside_no_day)
    found = np.zeros(3, np.int64)
    for day in rows.manifest.days:
        said = labels.day(day.day)
        if not said.rows:
            continue
        if day.day not in shared and (view.as_of is None or is_settled(day, view)):
            found += (said.rows, 0, 0)
        elif said.first is None or view.as_of is None or said.first <= to_micros(view.as_of):
            open_days.append(day)
    if open_days:
        known = _known(without_copies(pa.concat_tables(labels.read(day.day) for day in open_days)), view)
        known = with_hashes(known, rows.schema.field(KEY).type)
        orphans = ~np.isin(known[HASH].to_numpy(), _ids(rows, open_days, view))
        found += (known.num_rows, 0, int(orphans.sum()))
    last = None if view.as_of is None else to_micros(view.as_of) // _HOUR
    for part in labels.manifest.waiting:
        for hour, count, without_id in part.hours:
            if last is None or hour <= last:
                found += (count, without_id, count - without_id)
    return LabelTableProfile(*map(int, found))


def _known(labels: pa.Table, view: View) -> pa.Table:
    """See `label_table.known_by`."""
    if view.as_of is None or AVAILABLE not in labels.column_names:
        return labels
    times = labels[AVAILABLE].cast(pa.int64())
    return labels.filter(pc.fill_null(pc.less_equal(times, to_micros(view.as_of)), fill_value=True))


def _ids(rows: Snapshot, days: Iterable[Day], view: View) -> UInts:
    """Hashes of the ids of the transactions of days that a view counts; see `View.counts`."""
    wanted = pa.schema([rows.schema.field(name) for name in (KEY, TIME)])
    table = pa.concat_tables(read_day(rows.storage, day, wanted) for day in days)
    table = table.filter(table[KEY].is_valid())
    if view.as_of is not None:
        times = table[TIME].cast(pa.int64())
        counts = pc.less(times, to_micros(view.as_of))
        if not view.rejects_future:
            counts = pc.or_(counts, pc.greater(times, to_micros(view.clock)))
        table = table.filter(pc.fill_null(counts, fill_value=True))
    return hashes(table[KEY])
