"""Counts by fine bin from the engine's workers are those of the driver."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_fit import CATEGORICAL, NUMERIC, SMALL, _table

from fraud_detection.errors import FraudDetectionError
from fraud_detection.model.bin_counts import count_bins, counted_columns, is_category
from fraud_detection.model.fine_bins import MISSING_BIN, OTHER_BIN, fine_bins
from fraud_detection.model.fit import fit
from fraud_detection.spark_session import Engine, session


@pytest.mark.parametrize("engine", [Engine.SAIL, pytest.param(Engine.SPARK, marks=pytest.mark.slow)])
def test_the_engine_s_workers_count_like_the_driver(engine: Engine, tmp_path: Path) -> None:
    """Fails when drift depends on where rows lie, or a new category or a missing value is not counted as itself."""
    model = fit(_table(), None, SMALL, NUMERIC, CATEGORICAL)
    rows = _table(5_000, seed=1)
    rows.loc[:9, "channel"] = "never seen"
    rows.loc[10:29, "channel"] = None
    rows.loc[:99, NUMERIC[0]] = np.nan
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path, index=False)
    with session(engine) as spark:
        table = spark.read.parquet(str(path)).repartition(3)
        found = count_bins(table, model.to_bytes())
        without = count_bins(table.drop("channel"), model.to_bytes(), ["channel"])
        with pytest.raises(FraudDetectionError, match="channel"):
            count_bins(table.drop("channel"), model.to_bytes())
    columns = counted_columns(model)
    assert set(columns) == {*NUMERIC, *CATEGORICAL}
    counts = {name: found[found["name"] == place].set_index("bin")["rows"] for place, name in enumerate(columns)}
    for name, places in columns.items():
        assert counts[name].sum() == len(rows)
        if not is_category(model, places):
            expected = pd.Series(fine_bins(rows[name].to_numpy(np.float32))).value_counts()
            assert counts[name].to_dict() == expected.to_dict()
    assert counts[NUMERIC[0]][MISSING_BIN] == 100
    assert (counts["channel"][OTHER_BIN], counts["channel"][MISSING_BIN]) == (10, rows["channel"].isna().sum())
    scores = found[found["name"] == len(columns)].set_index("bin")["rows"]
    assert scores.to_dict() == pd.Series(fine_bins(model.predict(rows))).value_counts().to_dict()
    assert without["name"].nunique() == len(columns), "all but the lost column, and the scores"
