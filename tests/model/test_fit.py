"""Training: the same data give the same model on every machine, and a model names the columns that it lacks."""

import math

import numpy as np
import pandas as pd
import pytest
import xgboost

from fraud_detection import settings
from fraud_detection.errors import FraudDetectionError
from fraud_detection.model import fit as fitting
from fraud_detection.model import model as trained
from fraud_detection.model.fit import fit, for_frauds
from fraud_detection.model.model import Model
from fraud_detection.sampling import sample, sample_rate

SMALL = settings.Training(trees=15, max_depth=3, few_frauds=0)
SIMPLE = {"max_depth": 3, "subsample": 0.7, "colsample": 0.5, "parallel_trees": 3}
"""Of few frauds."""
NUMERIC = ("amount", "card_count_7d", "V1[€]=a<b%")
CATEGORICAL = ("channel",)
TRAININGS = pytest.mark.parametrize("training", [SMALL, SMALL.model_copy(update=SIMPLE)], ids=["default", "simple"])


def _table(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    amount = np.exp(random.normal(3, 1, rows))
    channel = random.choice(np.array(["web", "shop", "100%", "a=b", "[x<y]", None], dtype=object), rows)
    risk = -5 + 0.03 * amount + 1.5 * (channel == "a=b")
    return pd.DataFrame(
        {
            "transaction_id": random.permutation(rows),
            "amount": amount,
            "card_count_7d": np.where(random.random(rows) < 0.2, np.nan, random.poisson(3, rows)),
            "V1[€]=a<b%": random.normal(size=rows),
            "channel": channel,
            "sample_hash": random.random(rows),
            "fraud": (random.random(rows) < 1 / (1 + np.exp(-risk))).astype(np.int8),
        }
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return _table()


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> Model:
    return fit(table, None, SMALL, NUMERIC, CATEGORICAL)


@TRAININGS
def test_the_order_of_the_rows_does_not_change_a_bit_of_the_model(
    table: pd.DataFrame, training: settings.Training
) -> None:
    """Fails when two runs on the same data give two models because an engine returned the rows in another order."""
    weights = np.where(table["fraud"] == 1, 1.0, 3.7)
    shuffled = np.random.default_rng(1).permutation(len(table))
    one = fit(table, weights, training, NUMERIC, CATEGORICAL)
    other = fit(table.iloc[shuffled], weights[shuffled], training, NUMERIC, CATEGORICAL)
    assert one.to_bytes() == other.to_bytes()


@TRAININGS
def test_the_number_of_cores_does_not_change_a_bit_of_the_model(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, training: settings.Training
) -> None:
    """Fails when a model trained on the cluster cannot be reproduced on a developer machine."""
    models = []
    for cores in (1, 3):
        monkeypatch.setattr(fitting, "usable_cores", lambda cores=cores: cores)
        models.append(fit(table, None, training, NUMERIC, CATEGORICAL).to_bytes())
    assert models[0] == models[1]


def test_a_model_survives_its_file(table: pd.DataFrame, model: Model) -> None:
    """Fails when the model read back from its file scores differently from the one that was evaluated."""
    loaded = Model.from_bytes(model.to_bytes())
    assert loaded.inputs == model.inputs
    assert np.array_equal(loaded.predict(table), model.predict(table))
    assert loaded.to_bytes() == model.to_bytes()


def test_broken_model_bytes_are_named_as_such() -> None:
    """Fails when a damaged model file ends in a stack trace of XGBoost."""
    with pytest.raises(FraudDetectionError, match="not an XGBoost model"):
        Model.from_bytes(b"damaged")


def test_a_model_without_input_names_is_refused(table: pd.DataFrame) -> None:
    """Fails when a model without input names is fed columns by position, and its scores mean nothing."""
    data = xgboost.DMatrix(table[["amount"]].to_numpy(), label=table["fraud"])
    with pytest.raises(FraudDetectionError, match="does not name its inputs"):
        Model.from_booster(xgboost.train({}, data, 1))


def test_the_bare_booster_takes_a_table_of_its_inputs(table: pd.DataFrame, model: Model) -> None:
    """Fails when the model loaded through MLflow gives other scores than those that were evaluated."""
    inputs = model.inputs_of(table)
    assert tuple(inputs.columns) == model.inputs
    assert np.array_equal(model.booster.predict(xgboost.DMatrix(inputs)), model.predict(table))
    assert np.array_equal(model.predict(inputs), model.predict(table))


def test_all_missing_columns_are_named_at_once(table: pd.DataFrame, model: Model) -> None:
    """Fails when missing columns are reported one per run, each an hour apart."""
    with pytest.raises(FraudDetectionError, match=r"missing: V1\[€\]=a<b%, amount, channel; found: transaction_id"):
        model.predict(table.drop(columns=["amount", "channel", "V1[€]=a<b%"]))
    with pytest.raises(FraudDetectionError, match="missing: nowhere"):
        fit(table, None, SMALL, ("amount", "nowhere"))


def test_categories_are_the_most_frequent_ones_and_ties_go_by_value() -> None:
    """Fails when the same data give two vocabularies, and so two models."""
    channel = ["b"] * 30 + ["c"] * 20 + ["a"] * 20 + ["rare"] * 10 + [None] * 40
    rows = pd.DataFrame({"transaction_id": range(120), "fraud": [0, 1] * 60, "channel": channel})
    chosen = settings.Training(trees=1, max_categories=3)
    assert fit(rows, None, chosen, (), ("channel",)).inputs == ("channel=b", "channel=a", "channel=c")


def test_a_category_of_a_few_rows_is_no_input() -> None:
    """Fails when the names of a model's inputs, visible in MLflow, contain the value of a single transaction."""
    channel = ["web"] * 10 + ["shop"] * 9 + ["paid by Anna"]
    rows = pd.DataFrame({"transaction_id": range(20), "fraud": [0, 1] * 10, "channel": channel})
    assert fit(rows, None, SMALL, (), ("channel",)).inputs == ("channel=web",)


def test_a_category_is_one_or_zero_and_missing_stays_missing(table: pd.DataFrame, model: Model) -> None:
    """Fails when a missing category is encoded as another value, or an unseen value as missing."""
    rows = table.head(3).assign(channel=np.array(["a=b", "never seen", None], dtype=object))
    assert "channel=a%3Db" in model.inputs
    np.testing.assert_array_equal(model.inputs_of(rows)["channel=a%3Db"], np.array([1.0, 0.0, np.nan]))


def test_two_vocabularies_score_the_same_rows(table: pd.DataFrame, model: Model) -> None:
    """Fails when champion and challenger, trained on weeks with other frequent values, cannot score the same rows."""
    other = fit(table[table["channel"] != "web"], None, SMALL, NUMERIC, CATEGORICAL)
    assert other.inputs != model.inputs
    assert np.isfinite(other.predict(table)).all()


def test_nullable_columns_and_infinities_are_taken(table: pd.DataFrame, model: Model) -> None:
    """Fails when one odd value in a numeric column stops a run."""
    odd = table.assign(
        card_count_7d=table["card_count_7d"].astype("Float64"), amount=table["amount"].where(table.index != 5, np.inf)
    )
    assert np.isfinite(model.predict(odd)).all()
    same = table.assign(card_count_7d=table["card_count_7d"].astype("Float64"))
    assert np.array_equal(model.predict(same), model.predict(table))


def test_no_rows_are_scored_as_no_rows(table: pd.DataFrame, model: Model) -> None:
    """Fails when an hour without transactions cannot be scored."""
    assert model.predict(table.iloc[:0]).shape == (0,)


def test_rows_are_scored_alike_in_chunks(table: pd.DataFrame, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when scoring many rows in parts changes a score."""
    whole = model.predict(table)
    monkeypatch.setattr(trained, "_CHUNK_ROWS", 1000)
    assert np.array_equal(model.predict(table), whole)


def test_few_frauds_get_a_simpler_model(table: pd.DataFrame) -> None:
    """Fails when a bank with few frauds gets a model of their noise, or a bank with many loses precision."""
    frauds = int(table["fraud"].sum())
    asked = settings.Training(trees=5, subsample=0.9, parallel_trees=2)
    for few, expected in ((frauds, asked), (frauds + 1, simple := asked.model_copy(update=SIMPLE))):
        chosen = asked.model_copy(update={"few_frauds": few})
        assert for_frauds(chosen, frauds) == expected.model_copy(update={"few_frauds": few})
    by_hand = fit(table, None, simple.model_copy(update={"few_frauds": 0}), NUMERIC, CATEGORICAL)
    assert fit(table, None, chosen, NUMERIC, CATEGORICAL).to_bytes() == by_hand.to_bytes()


@pytest.mark.parametrize("weight", [None, 3.7])
def test_bins_are_fine_where_frauds_begin(weight: float | None) -> None:
    """Fails when frauds at large amounts share a bin with genuine rows, and the model cannot separate the two."""
    amount = np.arange(20_000, dtype=np.float64)
    fraud = (amount >= 19_900).astype(np.int8)
    rows = pd.DataFrame({"transaction_id": range(len(amount)), "amount": amount, "fraud": fraud})
    weights = None if weight is None else np.where(fraud == 1, 1.0, weight)
    scores = fit(rows, weights, SMALL.model_copy(update={"max_bin": 32}), ("amount",)).predict(rows)
    # A 32nd of the rows would be 625 rows, and hold all frauds.
    assert scores[fraud == 0].max() < np.quantile(scores[fraud == 1], 0.1)


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_still_fits(table: pd.DataFrame, label: int) -> None:
    """Fails when training on a single class ends in an error instead of a decision that says what is missing."""
    scores = fit(table.assign(fraud=label), None, SMALL, ("amount",)).predict(table)
    assert np.abs(scores - label).max() < 0.5


def test_no_training_rows_is_said(table: pd.DataFrame) -> None:
    """Fails when an empty training window ends in an unclear error of XGBoost."""
    with pytest.raises(FraudDetectionError, match="no training rows"):
        fit(table.iloc[:0], None, SMALL, ("amount",))


def test_importance_sums_to_one_with_the_largest_first(model: Model) -> None:
    """Fails when the report's feature importances do not add up to 100% or are out of order."""
    shares = list(model.importance().values())
    assert math.isclose(sum(shares), 1.0)
    assert shares == sorted(shares, reverse=True)
    assert next(iter(model.importance())) == "amount"


def test_probabilities_stay_calibrated_under_sampling() -> None:
    """Fails when a smaller training sample shifts the probabilities, and with them every threshold in use."""
    table = _table(20_000, seed=3)
    rate = sample_rate(int((table["fraud"] == 0).sum()), int(table["fraud"].sum()), 5000)
    rows, weights = sample(table, rate)
    assert rate < 0.3
    scores = fit(rows, weights, SMALL, NUMERIC, CATEGORICAL).predict(table)
    assert abs(scores.mean() / table["fraud"].mean() - 1) < 0.1
