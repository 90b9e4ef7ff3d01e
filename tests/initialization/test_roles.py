"""Which column is which, and what is said where that cannot be told or was told wrongly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from foreign_forms import payments
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.cli import main
from fraud_detection.errors import DataError, SettingsError
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.initialize import Found, examine
from fraud_detection.initialization.search import Search
from fraud_detection.initialization.time_columns import find_time

Look = Callable[..., Found]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return payments(3000)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """What `init` finds in a table, with the columns that a user names."""

    def written(table: pd.DataFrame, **given: str) -> Found:
        table.to_csv(tmp_path / "some.csv", index=False)
        return examine(str(tmp_path / "some.csv"), given)

    return written


def _one_value(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(fraud=0)


def _frauds_alone(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(fraud=1)


@pytest.mark.parametrize("given", [{}, {"fraud": "fraud"}])
@pytest.mark.parametrize(
    ("change", "said"), [(_one_value, "holds one value only"), (_frauds_alone, "holds one class only: all 3,000 rows")]
)
def test_a_label_of_one_kind_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: str, given: dict[str, str], table: pd.DataFrame, look: Look
) -> None:
    """Fails when an export of one class alone gets settings, or its label column is called missing."""
    with pytest.raises(DataError, match=f"column fraud {said}.* columns found: payment_id, .*, fraud, card"):
        look(change(table), **given)


def test_frauds_beside_rows_without_a_label_are_enough(table: pd.DataFrame, look: Look) -> None:
    """Fails when an export that marks the frauds and leaves the rest empty is refused as one class."""
    assert look(table.assign(fraud=table["fraud"].map({1: "1", 0: ""}))).roles.label.is_fraud.sum() > 0


@pytest.mark.parametrize(("name", "words"), [("Prüfergebnis", ("Betrug", "ok")), ("end", ("chargeback", "settled"))])
def test_a_label_is_found_by_the_words_of_its_values(
    name: str, words: tuple[str, str], table: pd.DataFrame, look: Look
) -> None:
    """Fails when a user must name the one column that says which payments were frauds."""
    found = look(table.assign(**{name: table["fraud"].map(dict(enumerate(words[::-1])))}).drop(columns="fraud"))
    assert found.roles.fraud.name == name
    assert found.roles.label.fraud_values == (words[0],)
    assert "by the words of its values; no name says fraud" in found.roles.why["fraud"]


def test_of_two_columns_that_say_fraud_none_is_chosen(table: pd.DataFrame, look: Look) -> None:
    """Fails when one of two opinions of which payments were frauds is taken in silence."""
    words = table["fraud"].map({1: "fraud", 0: "ok"})
    with pytest.raises(DataError, match="found no fraud"):
        look(table.assign(first=words, second=words[::-1].to_numpy()).drop(columns="fraud"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["amount=channel"], "expected numbers"),
        (["transaction_time=channel"], "no usable time"),
        (["transaction_time=month"], "no usable time"),
        (["label_available_at=terminal+channel"], "no usable time"),
        (["blocked=channel"], "expected 0 and 1"),
        (["fraud=card"], "different values"),
        (["amount=card", "customer_id=card"], "card is named more than once"),
        (["fraud=fraud", "fraud=channel"], "fraud is given more than once"),
        (["transaction_id=booked+channel"], "no column booked"),
        (["extra_numeric=distance"], "expected NAME=COLUMN"),
    ],
)
def test_a_column_that_cannot_have_its_role_is_a_wrong_argument(
    options: list[str], said: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Fails when a mistyped `--column` is believed, ends in a stack trace, or makes windows that fit no data."""
    table.assign(month=table["booked"].dt.month).to_csv(tmp_path / "some.csv", index=False)
    words = ["init", "--input", str(tmp_path / "some.csv"), "--config", str(tmp_path / "mine.yaml")]
    done = CliRunner().invoke(main, [*words, *(word for option in options for word in ("--column", option))])
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_a_named_column_is_not_guessed_for_another_role(table: pd.DataFrame, look: Look) -> None:
    """Fails when the column that a user names for one role was already taken for another."""
    roles = look(table, terminal_id="card").roles
    assert roles.terminal is not None
    assert (roles.terminal.name, roles.card) == ("card", None)


def _in_parts(table: pd.DataFrame) -> pd.DataFrame:
    booked = table["booked"].dt
    parts = table.assign(Year=booked.year, Month=booked.month, Day=booked.day, Time=booked.strftime("%H:%M"))
    return parts.drop(columns="booked")


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_the_parts_of_a_date_are_joined(order: str, table: pd.DataFrame, look: Look) -> None:
    """Fails when the day of the month is taken for the time, and the model learns from payments in a wrong order."""
    chosen = table if order == "sorted" else table.sample(frac=1.0, random_state=1)
    found = look(_in_parts(chosen))
    assert found.settings().data.columns.transaction_time == ("Year", "Month", "Day", "Time")
    assert found.settings().data.format.time_formats == ("%Y %m %d %H:%M",)
    assert (found.roles.time.moments == chosen["booked"].astype("datetime64[us]").astype("int64").to_numpy()).all()


def test_hours_and_minutes_in_columns_of_their_own_are_joined(table: pd.DataFrame, look: Look) -> None:
    """Fails when all payments of a day are put at midnight though the file knows the minute."""
    booked = table["booked"].dt
    parts = _in_parts(table).drop(columns="Time").assign(Hour=booked.hour, Minute=booked.minute)
    assert look(parts).roles.time.names == ("Year", "Month", "Day", "Hour", "Minute")


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["day", "hour", "time", "step"]),
    st.lists(st.integers(0, 30), min_size=3, max_size=60).filter(lambda days: days != sorted(days)),
)
def test_a_part_of_a_date_is_never_the_time(name: str, days: list[int]) -> None:
    """Fails when a day of the month or an hour, which begin again and again, orders the payments."""
    import pyarrow as pa

    for named in ({}, {"transaction_time": name}):
        with pytest.raises((DataError, SettingsError), match="transaction_time"):
            find_time(Search.of([Column(name, pa.array(list(map(str, days))))], named))


def test_a_named_merchant_and_large_ids_are_no_numbers(table: pd.DataFrame, look: Look) -> None:
    """Fails when the number of a merchant is learned as a size, rounded to what a float holds."""
    large = table["card"].astype(np.int64) * 10**15 + 7
    changed = table.assign(merchant=large, key=large[::-1].to_numpy()).drop(columns="terminal")
    found = look(changed.rename(columns={"merchant": "Merchant Name"}))
    assert found.roles.terminal is not None
    assert found.roles.terminal.name == "Merchant Name"
    assert found.extras.left_out["key"] == "integers too large to be exact: an id or a key"


def test_the_number_of_a_card_beside_its_user_is_said(table: pd.DataFrame, look: Look) -> None:
    """Fails when the cards of a user are one card, and the file does not say so."""
    changed = table.rename(columns={"card": "User"}).assign(Card=table.index % 3)
    found = look(changed)
    assert found.roles.card is not None
    assert found.roles.card.name == "User"
    assert any("a card is both together" in remark for remark in found.roles.remarks)
