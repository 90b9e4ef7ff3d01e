"""Sound files with a few odd cells: settings that a run accepts, or one line that says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from foreign_forms import payments

from fraud_detection.errors import DataError
from fraud_detection.initialization.initialize import Found, examine


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return payments(300).astype({"fraud": str, "card": str, "amount": str})


@pytest.fixture
def look(tmp_path: Path) -> Callable[[pd.DataFrame], Found]:
    """What `init` finds in a table."""

    def written(table: pd.DataFrame) -> Found:
        table.to_csv(tmp_path / "some.csv", index=False)
        return examine(str(tmp_path / "some.csv"), {})

    return written


Look = Callable[[pd.DataFrame], Found]


@pytest.mark.parametrize("column", ["amount", "card", "channel"])
def test_a_superscript_beside_a_number_is_no_currency(column: str, table: pd.DataFrame, look: Look) -> None:
    """Fails when one mistyped cell ends `init` with a stack trace."""
    table = table.copy()
    table.loc[7, column] = "$²2"
    assert look(table).settings().data.format.currency == ()


@pytest.mark.parametrize("odd", [0, 252_455_612_400, 10**15])
def test_a_time_of_another_age_does_not_move_the_others(odd: int, table: pd.DataFrame, look: Look) -> None:
    """Fails when one damaged counter makes all times count from an unknown start, or ends in a stack trace."""
    booked = table["booked"].astype("datetime64[s]").astype("int64")
    found = look(table.assign(booked=booked.where(table.index != 5, odd)))
    assert found.settings().data.format.time_unit == "s"
    assert found.roles.time.form.origin is None
    assert found.span.last == booked.max() * 10**6


@pytest.mark.parametrize("odd", ["", "x", "2025-01-01", "7.5", "no idea about this one, sorry"])
def test_one_odd_label_is_left_to_the_run(odd: str, table: pd.DataFrame, look: Look) -> None:
    """Fails when one mistyped label of hundreds hides the column that says which transactions are frauds."""
    changed = table.assign(fraud=table["fraud"].where(table.index != 5, odd))
    found = look(changed)
    assert found.roles.fraud.name == "fraud"
    assert found.roles.label.is_fraud.sum() == (changed["fraud"] == "1").sum()
    assert not found.roles.label.fraud_values


def test_many_odd_labels_are_said_with_their_shapes(table: pd.DataFrame, look: Look) -> None:
    """Fails when a user who has a column `fraud` is told that there is none, without a reason."""
    with pytest.raises(DataError, match=r"column fraud has values that say neither .*a99, aa9") as raised:
        look(table.assign(fraud=table["fraud"].where(table.index % 9 > 0, "xy1").where(table.index % 7 > 0, "z22")))
    assert "xy1" not in str(raised.value)
