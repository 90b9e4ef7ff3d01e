"""Masked shapes: messages help to find a fault without repeating a value of the data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.shapes import LONGEST, column_names, library_text, shape, stack_trace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("04.03.2025", "99.99.9999"),
        ("$1,234.56", "$9,999.99"),
        ("2025-03-04T12:30:00.123456+03:00", "9999-99-99A99:99:99.999999+99:99"),
        ("Ærøskøbing €5", "Aaaaaaaaaa €9"),
        ("٣٤", "99"),
        ("a\x1b[31m\n", "a?[99a?"),
        ("x" * 40, "x".replace("x", "a") * LONGEST + "…"),
    ],
)
def test_a_shape_keeps_what_is_wrong_and_not_the_value(text: str, expected: str) -> None:
    """Fails when a message does not show that the decimal comma or the order of the date is wrong."""
    assert shape(text) == expected


@given(st.text())
def test_no_letter_and_no_digit_of_a_value_survives(text: str) -> None:
    """Fails when a shape repeats part of a value, or passes control characters to a terminal."""
    found = shape(text)
    assert len(found) <= LONGEST + 1
    assert not {character for character in found if character.isalnum()} - set("9Aa")
    assert found.rstrip("…").isprintable()


@pytest.mark.parametrize(
    "row", [["1017", "2025-03-04", "C1"], ["C1;12,50;web"], ["C1", "web", "12.5"], ["C1\t2025-03-04"], ["C4111111111"]]
)
def test_the_first_row_of_a_file_without_a_header_is_no_list_of_names(row: list[str]) -> None:
    """Fails when the message about missing columns shows a transaction."""
    assert column_names(row) == [shape(cell) for cell in row]


@pytest.mark.parametrize("names", [["TX_ID", "V1", "V28", "Time", "Betrag (EUR)", ""], ["is_3ds", "amount_usd_2024"]])
def test_names_of_columns_are_shown(names: list[str]) -> None:
    """Fails when the message does not show which columns the file has."""
    assert column_names(names) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("could not convert string to float: 'Smith'", "could not convert string to float: 'Aaaaa'"),
        ("couldn't cast 'O'Brien' to INT96", "couldn't cast 'A'Aaaaa' to INT96"),
        ('For input string: "17a\nb', 'For input string: "99a a"'),
        ("Integer value 301 not in range: -128 to 127", "Integer value 999 not in range: -999 to 999"),
        ("CSV parse error: Expected 3 columns, got 4: a,b,c,d", "CSV parse error: Expected 3 columns, got 4: …"),
        ("cannot read 'data/2025-03-04.parquet': s3a, utf-8", "cannot read 'data/2025-03-04.parquet': s3a, utf-8"),
    ],
)
def test_what_a_library_says_comes_without_the_values_that_it_quotes(text: str, expected: str) -> None:
    """Fails when an exception of Arrow, pandas or an engine carries a value of a row into a message."""
    assert library_text(text) == expected


def test_the_trace_of_a_defect_shows_where_and_repeats_no_value() -> None:
    """Fails when a bug writes a row into the task's log, or cannot be located."""

    def convert(text: str) -> float:
        return float(text)

    value, card = "-".join(["CANARY", "7"]), "4111" * 4
    try:
        try:
            convert(value)
        except ValueError as error:
            raise KeyError(card) from error
    except KeyError as error:
        found = stack_trace(error)
    assert "CANARY" not in found
    assert "4111" not in found
    assert found.index("ValueError: could not convert string to float") < found.index("KeyError")
    assert "in convert" in found
