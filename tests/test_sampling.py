"""Which rows train and which compare: one on the wrong side, or a label of the future, invalidates a comparison."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from fraud_detection.holdout import HoldoutSpan, blocked_scores_text, holdout_rows
from fraud_detection.labels import ever_fraud
from fraud_detection.runs.first_champion import first_holdout
from fraud_detection.sampling import sample, sample_rate, to_pandas, training_rows
from fraud_detection.settings import Settings
from fraud_detection.spark_session import Engine, session
from fraud_detection.time_windows import (
    CandidateSpans,
    RunWindows,
    candidate_spans,
    first_champion_cutoff,
    run_windows,
)

AS_OF = datetime(2024, 3, 1, 5, tzinfo=UTC)
START = pd.Timestamp("2024-02-01")


def _settings(unlabelled_is_genuine: bool = True) -> Settings:
    return Settings.model_validate(
        {
            "data": {"unlabelled_is_genuine": unlabelled_is_genuine},
            "windows": {
                "label_delay_days": 3,
                "maturity_days": 3,
                "training_gap_days": 3,
                "holdout_days": 4,
                "training_window_days": 10,
                "known_card_window_days": 6,
            },
        }
    )


def _windows() -> RunWindows:
    return run_windows(AS_OF, _settings().windows)


def _spans() -> CandidateSpans:
    return candidate_spans(first_champion_cutoff(AS_OF, _settings().windows), _settings().windows)


def _span() -> HoldoutSpan:
    return first_holdout(_spans(), AS_OF, _settings())


Said = tuple[tuple[pd.Timestamp | None, int | None], ...]
"""The labels of a transaction, oldest first: when each came (None: nobody says), and what it says (None: nothing)."""


@st.composite
def feature_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Few cards, whole and half days, so that rows meet every border; labels of any age, missing and corrected ones.

    The column `said` has the labels in plain form.
    """
    size = draw(st.integers(0, 40))
    halves = draw(st.lists(st.integers(0, 60), min_size=size, max_size=size))
    time = START + pd.Timedelta(hours=5) + pd.to_timedelta(np.array(halves, dtype=float) * 12, unit="h")
    table = pd.DataFrame(
        {
            "transaction_id": draw(st.permutations(range(size))),
            "transaction_time": time,
            "amount": 1.0,
            "customer_id": _cards(draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)), draw(st.booleans())),
        }
    )
    if draw(st.booleans()):
        table["blocked"] = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    delays, most = draw(st.sampled_from([(st.none(), 1), (DELAYS, 1), (DELAYS, 3)]))
    one = st.tuples(delays, st.sampled_from([0, 1, None]))
    many = st.lists(one, min_size=1, max_size=most, unique_by=lambda label: label[0])
    labels = [_moved(moment, draw(many)) for moment in table["transaction_time"]]
    return _with_labels(table, labels, dated=delays is DELAYS, history=most > 1)


def _cards(cards: list[int], unknown: bool) -> Any:
    """Cards, of which one number may stand for those that are not known."""
    return pd.array([None if card == 4 else card for card in cards], dtype="Int64") if unknown else cards


DELAYS = st.one_of(st.none(), st.integers(0, 20))


def _moved(time: pd.Timestamp, labels: list[tuple[int | None, int | None]]) -> Said:
    in_order = sorted(labels, key=lambda label: -1 if label[0] is None else label[0])
    return tuple((None if days is None else time + pd.Timedelta(days=days), fraud) for days, fraud in in_order)


def _with_labels(table: pd.DataFrame, said: list[Said], *, dated: bool, history: bool) -> pd.DataFrame:
    """The table with its labels as the reader brings them."""
    last = [labels[-1] for labels in said]
    table = table.assign(fraud=pd.array([fraud for _, fraud in last], dtype="Int8"))
    table["said"] = pd.Series(said, index=table.index, dtype=object)
    if dated:
        table["label_available_at"] = pd.to_datetime(pd.Series([came for came, _ in last], index=table.index))
    if history:
        texts = [" ".join(map(_text, labels)) if len(labels) > 1 else None for labels in said]
        table["label_history"] = pd.Series(texts, index=table.index, dtype=object)
    return table


def _text(label: tuple[pd.Timestamp | None, int | None]) -> str:
    came, fraud = label
    micros = 0 if came is None else came.value // 1000
    return f"{micros:019d}={'-' if fraud is None else fraud}"


def _known_time(row: "pd.Series[Any]", came: pd.Timestamp | None) -> pd.Timestamp:
    known = row["transaction_time"] + pd.Timedelta(days=3) if came is None else came
    return pd.Timestamp(max(known, row["transaction_time"] + pd.Timedelta(microseconds=1)))


def _label_at(row: "pd.Series[Any]", moment: pd.Timestamp) -> int | None:
    """The last label known at a time."""
    known = [fraud for came, fraud in row["said"] if _known_time(row, came) <= moment]
    return known[-1] if known else None


def _naive(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment.replace(tzinfo=None))


def _expected_labels(
    table: pd.DataFrame, start: datetime, end: datetime, at: datetime, genuine: bool
) -> dict[int, int]:
    """Transaction id → label, computed one row at a time."""
    labels = {}
    for _, row in table.iterrows():
        if not _naive(start) <= row["transaction_time"] < _naive(end):
            continue
        label = _label_at(row, _naive(at))
        if label is not None or (genuine and row.get("blocked") != 1):
            labels[row["transaction_id"]] = label or 0
    return labels


@given(feature_tables(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_training_labels_are_those_known_when_the_holdout_began(table: pd.DataFrame, genuine: bool) -> None:
    """Fails when training uses labels that were not yet known when the hold-out began."""
    windows = _windows()
    rows = training_rows(table, _spans(), _settings(genuine))
    expected = _expected_labels(table, windows.training_start, windows.training_end, windows.holdout_start, genuine)
    assert dict(zip(rows["transaction_id"], rows["fraud"], strict=True)) == expected
    assert rows["transaction_id"].is_monotonic_increasing
    assert list(rows.index) == list(range(len(rows)))
    assert rows["fraud"].dtype == np.int8


@given(feature_tables(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_holdout_leaves_out_cards_known_as_compromised(table: pd.DataFrame, genuine: bool) -> None:
    """Fails when the hold-out rewards a model for frauds of cards that the bank has already blocked."""
    windows = _windows()
    frauds = table[ever_fraud(table)]
    rows = holdout_rows(table, frauds, _span(), _settings(genuine))
    expected = _expected_labels(table, windows.holdout_start, windows.holdout_end, windows.as_of, genuine)
    oldest = _naive(windows.holdout_start) - pd.Timedelta(days=6)
    for _, row in table.iterrows():
        day_start = row["transaction_time"].floor("D") + pd.Timedelta(hours=5)
        day_start -= pd.Timedelta(days=1) if day_start > row["transaction_time"] else pd.Timedelta(0)
        for _, fraud in frauds.iterrows():
            if pd.isna(fraud["customer_id"]) or pd.isna(row["customer_id"]):
                continue
            known = fraud["transaction_time"] >= oldest and _label_at(fraud, day_start) == 1
            if known and fraud["customer_id"] == row["customer_id"]:
                expected.pop(row["transaction_id"], None)
    assert dict(zip(rows["transaction_id"], rows["fraud"], strict=True)) == expected
    assert rows["transaction_id"].is_monotonic_increasing


@pytest.mark.slow
@given(feature_tables(), feature_tables(), st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_what_comes_after_t_changes_nothing_at_t(
    table: pd.DataFrame, later: pd.DataFrame, genuine: bool, data: st.DataObject
) -> None:
    """Fails when data from after the as-of time change the training rows, labels, weights or hold-out."""
    t = _naive(AS_OF)
    table = table[table["transaction_time"] < t]
    said = [_corrected_after(t, row, data.draw(st.sampled_from([0, 1, None]))) for _, row in table.iterrows()]
    kinds = {"dated": True, "history": True}
    corrected = _with_labels(table, said, **kinds)
    later = _with_labels(later, list(later["said"]), **kinds)
    later["transaction_time"] += t - START
    later["transaction_id"] += 1000
    for one, other in zip(_split(table, genuine), _split(pd.concat([corrected, later]), genuine), strict=True):
        assert_frame_equal(one, other, check_dtype=False)  # an empty table has types of its own


def _corrected_after(t: pd.Timestamp, row: "pd.Series[Any]", fraud: int | None) -> Said:
    """The label of a transaction known at the as-of time, and a later correction."""
    known = tuple((came, label) for came, label in row["said"] if _known_time(row, came) <= t)
    return (*known, (t + pd.Timedelta(microseconds=1), fraud))


def _split(table: pd.DataFrame, genuine: bool) -> list[pd.DataFrame]:
    """Training rows with their weights, and the hold-out."""
    chosen = _settings(genuine)
    table = table.assign(sample_hash=table["transaction_id"] % 10 / 10)
    training, weights = sample(training_rows(table, _spans(), chosen), 0.5)
    holdout = holdout_rows(table, table[ever_fraud(table)], _span(), chosen)
    return [
        training[["transaction_id", "fraud"]].assign(weight=pd.Series(weights, index=training.index)),
        holdout[["transaction_id", "fraud", "day"]],
    ]


def test_a_reversed_chargeback_does_not_erase_what_training_knew() -> None:
    """Fails when a chargeback reversed later removes a fraud that training or the hold-out had known."""
    windows = _windows()
    begin, day = _naive(windows.holdout_start), pd.Timedelta(days=1)
    trained = {"transaction_id": 1, "transaction_time": _naive(windows.training_end) - day, "customer_id": "trained"}
    of_known_card = {"transaction_id": 2, "transaction_time": begin - 2 * day, "customer_id": "card"}
    scored = [
        {"transaction_id": 3 + day_, "transaction_time": begin + day_ * day, "customer_id": "card"} for day_ in range(3)
    ]
    reversed_: Said = ((begin - day, 1), (begin + day, 0))
    said = [reversed_, reversed_, *([((None, None),)] * 3)]
    table = _with_labels(pd.DataFrame([trained, of_known_card, *scored]), said, dated=True, history=True)
    assert dict(training_rows(table, _spans(), _settings())[["transaction_id", "fraud"]].to_numpy()) == {1: 1}
    holdout = holdout_rows(table, table[ever_fraud(table)], _span(), _settings())
    assert list(holdout["transaction_id"]) == [4, 5], "the card is blocked until the reversal is known, and not after"


@given(feature_tables())
@settings(max_examples=30, deadline=None)
def test_training_and_holdout_never_share_a_row(table: pd.DataFrame) -> None:
    """Fails when a model is tested on rows that it was trained on, and always wins."""
    training = training_rows(table, _spans(), _settings())
    holdout = holdout_rows(table, table.iloc[:0], _span(), _settings())
    assert not set(training["transaction_id"]) & set(holdout["transaction_id"])
    if len(training) and len(holdout):
        gap = holdout["transaction_time"].min() - training["transaction_time"].max()
        assert gap > pd.Timedelta(days=3)


@given(feature_tables())
@settings(max_examples=30, deadline=None)
def test_day_counts_24_hour_blocks_from_the_holdouts_start(table: pd.DataFrame) -> None:
    """Fails when card precision assigns a transaction to the wrong day, and ranks other cards."""
    rows = holdout_rows(table, table.iloc[:0], _span(), _settings())
    start = _naive(_windows().holdout_start)
    for time, day in zip(rows["transaction_time"], rows["day"], strict=True):
        assert start + pd.Timedelta(days=int(day)) <= time < start + pd.Timedelta(days=int(day) + 1)
    assert set(rows["day"]) <= set(range(4))


def test_a_table_without_cards_keeps_every_row() -> None:
    """Fails when data without card ids (the ULB data set) lose rows of their hold-out."""
    start = _naive(_windows().holdout_start)
    table = pd.DataFrame({"transaction_id": ["b", "a"], "transaction_time": [start, start], "fraud": [1, 0]})
    rows = holdout_rows(table, pd.DataFrame(), _span(), _settings())
    assert list(rows["transaction_id"]) == ["a", "b"]
    assert list(rows["fraud"]) == [0, 1]


def test_no_recent_fraud_of_any_card_is_no_error() -> None:
    """Fails when a month without frauds stops the run."""
    start = _naive(_windows().holdout_start)
    table = pd.DataFrame({"transaction_id": [1], "transaction_time": [start], "fraud": [0], "customer_id": ["c1"]})
    no_frauds = pd.DataFrame(columns=["customer_id", "transaction_time", "fraud", "label_available_at"])
    assert len(holdout_rows(table, no_frauds, _span(), _settings())) == 1


def test_what_becomes_known_at_a_border_is_known_there() -> None:
    """Fails when training and hold-out disagree on whether a label that arrives exactly at a border is known."""
    windows = _windows()
    last_trained = _naive(windows.training_end) - pd.Timedelta(hours=1)
    table = pd.DataFrame(
        {
            "transaction_id": [1, 2],
            "transaction_time": last_trained,
            "fraud": 1,
            "label_available_at": _naive(windows.holdout_start) + pd.to_timedelta([0, 1], unit="us"),
        }
    )
    assert list(training_rows(table, _spans(), _settings())["fraud"]) == [1, 0]

    start = _naive(windows.holdout_start)
    rows = pd.DataFrame({"transaction_id": [1, 2], "transaction_time": start, "fraud": 0, "customer_id": ["a", "b"]})
    oldest = start - pd.Timedelta(days=6)
    times = [oldest, oldest - pd.Timedelta(microseconds=1)]
    frauds = pd.DataFrame({"customer_id": ["a", "b"], "transaction_time": times, "fraud": 1})
    assert list(holdout_rows(rows, frauds, _span(), _settings())["customer_id"]) == ["b"]


@pytest.mark.needs("HANDBOOK_DATA")
def test_the_handbooks_split_is_reproduced_exactly() -> None:
    """Fails when the Handbook's published results cannot be compared because the split differs."""
    names = {
        "TRANSACTION_ID": "transaction_id",
        "TX_DATETIME": "transaction_time",
        "CUSTOMER_ID": "customer_id",
        "TX_FRAUD": "fraud",
    }
    table = pd.read_parquet(os.environ["HANDBOOK_DATA"], columns=list(names)).rename(columns=names)
    chosen = Settings.model_validate({"windows": {"training_window_days": 7, "training_gap_days": 7}})
    as_of = datetime(2018, 8, 22, tzinfo=UTC)
    spans = candidate_spans(first_champion_cutoff(as_of, chosen.windows), chosen.windows)
    training = training_rows(table, spans, chosen)
    holdout = holdout_rows(table, table[table["fraud"] == 1], first_holdout(spans, as_of, chosen), chosen)
    assert (len(training), training["fraud"].sum()) == (67_240, 598)
    assert (len(holdout), holdout["fraud"].sum()) == (58_264, 385)


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(1000, 10**6))
def test_sample_rate_is_a_share_that_meets_the_limit(genuine: int, frauds: int, limit: int) -> None:
    """Fails when the sampling rate drops every genuine transaction, or exceeds the limit of training rows."""
    rate = sample_rate(genuine, frauds, limit)
    assert 0.0 < rate <= 1.0
    assert frauds + rate * genuine <= max(limit, frauds + limit // 2) + 1e-6 * limit
    if genuine + frauds <= limit:
        assert rate == 1.0


@given(st.integers(0, 2**32), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_sampling_keeps_every_fraud_and_the_sum_of_weights(seed: int, rate: float) -> None:
    """Fails when sampling loses frauds, or wrong weights shift every probability."""
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({"fraud": (random.random(4000) < 0.05).astype(np.int8), "sample_hash": random.random(4000)})
    kept, weights = sample(rows, rate)
    weights = np.ones(len(kept)) if weights is None else weights
    fraud = kept["fraud"].to_numpy() == 1
    assert fraud.sum() == rows["fraud"].sum()
    assert (weights[fraud] == 1.0).all()
    genuine = int((rows["fraud"] == 0).sum())
    five_deviations = 5 * math.sqrt(genuine * (1 - rate) / rate)
    assert abs(weights[~fraud].sum() - genuine) <= five_deviations + 1e-6
    again, _ = sample(kept, rate)
    assert again.equals(kept)


def test_integer_ids_stay_exact_where_some_are_missing(tmp_path: Path) -> None:
    """Fails when two cards become one because a card that is not known turns their numbers into rounded ones."""
    table = pa.table(
        {"transaction_id": [1, 2, 3], "customer_id": [4_000_000_000_000_000_001, None, 4_000_000_000_000_000_002]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with session(Engine.SAIL) as spark:
        rows = to_pandas(spark.read.parquet(str(tmp_path / "a.parquet"))).sort_values("transaction_id")
    assert rows["customer_id"].tolist() == [4_000_000_000_000_000_001, pd.NA, 4_000_000_000_000_000_002]


def test_text_ids_come_to_the_driver_as_they_are(tmp_path: Path) -> None:
    """Fails when a run on CSV files, or on text ids, ends in a defect because no integer id has to be filled."""
    pq.write_table(pa.table({"transaction_id": ["a", "b"], "customer_id": ["x", None]}), tmp_path / "a.parquet")
    with session(Engine.SAIL) as spark:
        rows = to_pandas(spark.read.parquet(str(tmp_path / "a.parquet"))).sort_values("transaction_id")
    assert rows["customer_id"].fillna("none").tolist() == ["x", "none"]


def test_the_scores_of_blocked_payments_are_named_by_their_range_alone() -> None:
    """Fails when a comparison that lacks the payments with the highest scores does not say so."""
    scores = np.linspace(0.0, 1.0, 201)
    rows = pd.DataFrame(
        {"score": scores, "blocked": (scores > 0.8).astype(np.int8), "fraud": pd.array([0] * 201, "Int8")}
    )
    rows.loc[rows["score"] > 0.8, "fraud"] = pd.NA
    text = blocked_scores_text(rows, "score")
    assert text is not None
    assert "of 40 blocked payments" in text
    assert "0.825 to 0.981; 0.00% of the payments" in text
    rows.loc[rows.index[-1], "fraud"] = 1  # a blocked payment with a label lacks nothing
    assert "of 39 blocked payments" in str(blocked_scores_text(rows, "score"))
    assert blocked_scores_text(rows.drop(columns="blocked"), "score") is None
    assert blocked_scores_text(rows.assign(blocked=0), "score") is None
