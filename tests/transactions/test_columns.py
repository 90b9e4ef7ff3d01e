"""The canonical columns, which are declared once."""

from fraud_detection import settings
from fraud_detection.transactions.columns import CANONICAL, FLAGS, RESERVED, feature_table_columns, label_fields
from fraud_simulation.transactions import SCHEMA

EXTRA = {"extra_numeric", "extra_categorical"}


def test_every_canonical_column_can_be_mapped() -> None:
    """Fails when a canonical column has no setting, so that data which name it otherwise cannot be read."""
    assert set(settings.Columns.model_fields) == {*CANONICAL, *EXTRA}


def test_simulated_data_has_the_canonical_columns() -> None:
    """Fails when a newcomer's simulated data cannot be read with the default settings."""
    assert set(SCHEMA.names) == {*CANONICAL} - {*FLAGS}


def test_the_features_table_has_the_columns_that_are_mapped() -> None:
    """Fails when the label is lost where it comes from a label table, or a column without a source is asked for."""
    labels_apart = settings.Columns(fraud=None, terminal_id=None)
    assert feature_table_columns(labels_apart) == (
        "transaction_id",
        "transaction_time",
        "amount",
        "fraud",
        "customer_id",
    )
    fields = label_fields(settings.LabelTable(path="labels", label_available_at=None))
    assert [field.name for field in fields] == ["transaction_id", "fraud"]
    assert {*CANONICAL} < RESERVED
