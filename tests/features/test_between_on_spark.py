"""As `test_between`, on Apache Spark: only one engine may be open in a process."""

from pathlib import Path

import pytest
from between_data import made_rows, require_same, require_same_with_plain_labels, write

from fraud_detection.spark_session import Engine, session


@pytest.mark.slow
def test_the_store_gives_the_same_on_spark(tmp_path: Path) -> None:
    """Fails when a cluster reads other features from the store than it computes."""
    write(str(tmp_path), made_rows())
    with session(Engine.SPARK) as spark:
        require_same(spark, str(tmp_path))


@pytest.mark.proof
@pytest.mark.slow
def test_a_label_table_gives_the_same_on_spark(tmp_path: Path) -> None:
    """Fails when a cluster gives a transaction another label than a laptop does."""
    with session(Engine.SPARK) as spark:
        require_same_with_plain_labels(spark, str(tmp_path))
