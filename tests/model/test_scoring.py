"""Scores from the engine's workers are those of the driver."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_fit import CATEGORICAL, NUMERIC, SMALL, _table

from fraud_detection.errors import FraudDetectionError
from fraud_detection.model.encoding import encode
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.model.scoring import INPUTS, all_inputs, with_scores
from fraud_detection.spark_session import Engine, session


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows to score, as a file."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    _table(5000, seed=1).to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """A model of all columns, and a younger one that never knew the channel."""
    table = _table()
    return {"champion": fit(table, None, SMALL, NUMERIC, CATEGORICAL), "challenger": fit(table, None, SMALL, NUMERIC)}


@pytest.mark.parametrize("engine", [Engine.SAIL, pytest.param(Engine.SPARK, marks=pytest.mark.slow)])
def test_the_engine_s_workers_score_like_the_driver(engine: Engine, rows: Path, models: dict[str, Model]) -> None:
    """Fails when a comparison depends on where the rows are scored."""
    with session(engine) as spark:
        contents = {name: model.to_bytes() for name, model in models.items()}
        scored = with_scores(spark.read.parquet(str(rows)).repartition(3), contents, ["transaction_id", "fraud"])
        found = scored.toPandas().sort_values("transaction_id", ignore_index=True)
    expected = pd.read_parquet(rows).sort_values("transaction_id", ignore_index=True)
    assert list(found) == ["transaction_id", "fraud", "champion", "challenger"]
    for name, model in models.items():
        np.testing.assert_array_equal(found[name].to_numpy(), model.predict(expected))


@pytest.mark.parametrize("engine", [Engine.SAIL, pytest.param(Engine.SPARK, marks=pytest.mark.slow)])
def test_a_sample_of_the_rows_comes_with_its_inputs(engine: Engine, rows: Path, models: dict[str, Model]) -> None:
    """Fails when the report explains a model with the inputs of other rows, or in another order."""
    table = pd.read_parquet(rows).sort_values("transaction_id", ignore_index=True)
    table["sample_hash"] = np.arange(len(table)) / len(table)
    hashed = rows.with_name("hashed.parquet")
    table.to_parquet(hashed, index=False)
    contents = {name: model.to_bytes() for name, model in models.items()}
    with session(engine) as spark:
        scored = with_scores(spark.read.parquet(str(hashed)), contents, ["transaction_id"], sample=0.01)
        found = scored.toPandas().sort_values("transaction_id", ignore_index=True)
    drawn = table["sample_hash"] < 0.01
    assert found[INPUTS].notna().tolist() == drawn.tolist()
    names = all_inputs(models.values())
    np.testing.assert_array_equal(np.stack(found[INPUTS][drawn].tolist()), encode(table[drawn], names))


def test_a_column_that_is_gone_is_scored_as_missing(rows: Path, models: dict[str, Model]) -> None:
    """Fails when a champion cannot be compared because the data lost a column that is declared retired."""
    contents = {"champion": models["champion"].to_bytes()}
    with session(Engine.SAIL) as spark:
        without = spark.read.parquet(str(rows)).drop("channel")
        found = with_scores(without, contents, ["transaction_id"], ["channel"]).toPandas()
        with pytest.raises(FraudDetectionError, match="channel"):
            with_scores(without, contents, ["transaction_id"])
    expected = pd.read_parquet(rows).assign(channel=np.nan)
    found = found.sort_values("transaction_id", ignore_index=True)
    expected = expected.sort_values("transaction_id", ignore_index=True)
    np.testing.assert_array_equal(found["champion"].to_numpy(), models["champion"].predict(expected))
