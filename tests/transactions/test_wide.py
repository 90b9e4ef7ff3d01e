"""Input with very many columns, or a very long line."""

from pathlib import Path

from pyspark.sql import SparkSession
from reader_data import ids_of, read, row, rows_of, write_csv

from fraud_detection import settings

pytest_plugins = ["reader_data"]


def test_five_hundred_extra_columns_are_read_and_checked(spark: SparkSession, tmp_path: Path) -> None:
    """Fails when data with hundreds of features, as anonymised data have them, end in an error of the engine."""
    numbers = {f"V{number}": number / 2 for number in range(400)}
    words = {f"W{number}": "web" for number in range(100)}
    bad = row(2, **numbers, **words) | {"V317": "much"}
    write_csv(tmp_path / "a.csv", [row(1, **numbers, **words), bad, row(3, **numbers, **words)])
    columns = settings.Columns(
        label_available_at="label_available_at", extra_numeric=tuple(numbers), extra_categorical=tuple(words)
    )
    found = read(spark, tmp_path, columns)
    assert ids_of(found) == ["1", "3"]
    assert rows_of(found)[0]["V399"] == 399 / 2
    assert found.profile.rejected == {"bad_number": 1}
    assert found.profile.faults["bad_number"].startswith("V317: aaaa")
    assert found.rejected is not None
    assert [rejected["V317"] for rejected in found.rejected.collect()] == ["much"]
