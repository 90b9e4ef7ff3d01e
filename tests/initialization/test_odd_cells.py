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


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p"])
@pytest.mark.parametrize("odd", ["2025-02-30 10:00:00", "30.02.2025 10:00", "x", "12", "02/30/2025 10:00 AM"])
@pytest.mark.parametrize("rows", [60, 300])
def test_one_odd_time_hides_no_column(form: str, odd: str, rows: int, table: pd.DataFrame, look: Look) -> None:
    """Fails when one 30th of February among good times makes a file one without times."""
    some = table.head(rows).assign(booked=table["booked"].dt.strftime(form))
    fine = look(some).roles.time
    found = look(some.assign(booked=some["booked"].where(some.index != 5, odd))).roles.time
    assert (found.names, found.form.formats) == (("booked",), fine.form.formats)
    assert found.known.sum() == rows - 1


def test_texts_with_a_few_times_are_no_times(table: pd.DataFrame, look: Look) -> None:
    """Fails when a note that holds a date now and then is taken for the time."""
    notes = table["payment_id"].map("note {}".format).where(table.index % 9 > 0, "2025-01-01")
    with pytest.raises(DataError, match="found no transaction_time"):
        look(table.assign(time=notes).drop(columns="booked"))


@pytest.mark.parametrize("odd", ["x", "?", "1.2.3"])
def test_one_odd_amount_of_a_small_table_hides_no_column(odd: str, table: pd.DataFrame, look: Look) -> None:
    """Fails when one mistyped amount makes a small file one without amounts."""
    some = table.head(60)
    assert look(some.assign(amount=some["amount"].where(some.index != 5, odd))).roles.amount.name == "amount"


def test_a_history_of_an_hour_gets_settings(table: pd.DataFrame, look: Look) -> None:
    """Fails when a first small extract is refused for windows that its user has not set."""
    some = table.head(60)
    found = look(some.assign(booked=pd.date_range("2025-01-01", periods=60, freq="1min")))
    assert not found.fit.is_enough
    assert found.settings().windows.maturity_days > 0


def test_many_odd_labels_are_said_with_their_shapes(table: pd.DataFrame, look: Look) -> None:
    """Fails when a user who has a column `fraud` is told that there is none, without a reason."""
    with pytest.raises(DataError, match=r"column fraud has values that say neither .*a99, aa9") as raised:
        look(table.assign(fraud=table["fraud"].where(table.index % 9 > 0, "xy1").where(table.index % 7 > 0, "z22")))
    assert "xy1" not in str(raised.value)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            "amount",
            r"found no amount: .* column amount does not hold amounts \(of its texts 99\.99: .*%, aa9: 33\.\d%, ",
        ),
        ("booked", r"found no transaction_time: .* column booked does not hold times \(of its texts 9{4}-99-99 "),
    ],
)
def test_a_column_with_many_odd_cells_is_said_with_its_shapes(
    column: str, said: str, table: pd.DataFrame, look: Look
) -> None:
    """Fails when a user whose file has a column `amount` is told that there is none, without a reason."""
    with pytest.raises(DataError, match=said) as raised:
        look(table.assign(**{column: table[column].astype(str).where(table.index % 3 > 0, "xy7")}))
    assert "xy7" not in str(raised.value)
