"""Settings that fit texts: whatever is suggested reads them, and the usual foreign forms are recognised."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.settings import Format
from fraud_detection.transactions import fitting
from fraud_detection.transactions.numbers import MISSING
from fraud_detection.transactions.times import read_times

START = datetime.fromisoformat("2025-01-01T00:47:37")
MOMENTS = [START + timedelta(days=day, hours=day % 20) for day in range(40)]


@pytest.mark.parametrize(
    "form",
    [
        "%d.%m.%Y %H:%M",
        "%d/%m/%Y",
        "%m/%d/%Y %I:%M:%S %p",
        "%d-%b-%Y %H:%M:%S",
        "%B %d, %Y %H:%M",
        "%Y/%m/%d %H:%M:%S",
        "%Y%m%d",
        "%Y%m%d%H%M%S",
        "%d.%m.%y %H:%M",
        "%a, %d %b %Y %H:%M:%S",
        "%Y %m %d %H:%M",
        "%d.%m.%Y %H:%M:%S.%f",
    ],
)
def test_the_form_of_times_is_found(form: str) -> None:
    """Fails when a usual way to write times is not recognised, or day and month are swapped."""
    texts = [moment.strftime(form) for moment in MOMENTS]
    assert fitting.times(texts)[0] == {"time_formats": [form]}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2025-01-01 10:00"], {}),
        (["01/13/2025 1:00 a.m."], {"time_formats": ["%m/%d/%Y %I:%M %p"]}),
        (["1735692457", "1735715626"], {"time_unit": "s"}),
        (["1735692457000"], {"time_unit": "ms"}),
        (["1735692457000000000"], {"time_unit": "ns"}),
        (["45658.03", "45659"], {"time_unit": "d", "time_origin": "1899-12-30T00:00:00"}),
        (["0", "743"], {"time_unit": "h", "time_origin": "2000-01-01T00:00:00"}),
        (["0", "172792"], {"time_unit": "s", "time_origin": "2000-01-01T00:00:00"}),
        (["03.01.2025", "02.01.2025 10:00"], {"time_formats": ["%d.%m.%Y", "%d.%m.%Y %H:%M"]}),
    ],
)
def test_the_form_of_odd_times_is_found(texts: list[str], expected: fitting.Guess) -> None:
    """Fails when Unix times, serial days of a spreadsheet or mixed forms are not recognised."""
    assert fitting.times(texts)[0] == expected


def test_days_that_can_be_months_are_said_to_be_open() -> None:
    """Fails when only one of two possible dates is offered, and it is the wrong one."""
    assert {str(guess) for guess in fitting.times(["01/02/2025", "02/02/2025"])} == {
        "{'time_formats': ['%d/%m/%Y']}",
        "{'time_formats': ['%m/%d/%Y']}",
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["26.38", "-5", "1e3"], {}),
        (["26.38 EUR", "7.98 EUR"], {"currency": ["EUR"]}),
        (["$527.60", "$1,805.20"], {"thousands_mark": ",", "currency": ["$"]}),
        (["-$5.00"], {"currency": ["$"]}),
        (["26,38"], {"decimal_mark": ","}),
        (["1.234,56"], {"decimal_mark": ",", "thousands_mark": "."}),
        (["1 234,56 €"], {"decimal_mark": ",", "thousands_mark": " ", "currency": ["€"]}),
        (["1,234"], {"thousands_mark": ","}),
    ],
)
def test_the_form_of_amounts_is_found(texts: list[str], expected: fitting.Guess) -> None:
    """Fails when a usual way to write amounts is not recognised, or is recognised as a thousand times more."""
    assert fitting.amounts(texts)[0] == expected


@pytest.mark.parametrize(
    "texts",
    [["(5.00)"], ["abc"], ["1.2.3"], [], ["$" + " " * 10_000 + "x5"], ["$²2"]],
    ids=["brackets", "word", "points", "none", "long", "superscript"],
)
def test_amounts_that_cannot_be_told_are_not_guessed(texts: list[str]) -> None:
    """Fails when a negative amount in parentheses is read as a positive one, or nonsense as a number."""
    assert fitting.amounts(texts) == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Y", "N", ""], {"fraud_values": ["Y"], "genuine_values": ["N"]}),
        (["Fraud", "Genuine"], {"fraud_values": ["Fraud"], "genuine_values": ["Genuine"]}),
        (["0", "1", "2"], {"unknown_values": ["2"]}),
        (["t", "f"], {"fraud_values": ["t"], "genuine_values": ["f"]}),
        (["0", "1.0"], {}),
        (["red", "blue"], None),
        (["1", "2"], None),
    ],
)
def test_label_values_are_told_by_their_words(values: list[str], expected: fitting.Guess | None) -> None:
    """Fails when usual words for frauds are not recognised, or others are taken for labels."""
    assert fitting.labels(values) == expected


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1251", "utf-8"])
def test_the_encoding_is_found(name: str) -> None:
    """Fails when a file in an encoding of its own is called damaged."""
    text = "id,Кафе Москва,Магазин\n" if name == "cp1251" else "id,Café 9,Señor Muñoz\n"
    assert fitting.encoding(text.encode(name)) == ({} if name == "utf-8" else {"encoding": name})


def test_separator_and_header_line_are_found() -> None:
    """Fails when a file with semicolons, or with lines before its header, is reported as lacking all columns."""
    assert fitting.separators(["a;b;c", "1,5;2;3"])[0] == {"separator": ";"}
    found = fitting.header(["Export", "", "ID;ts;amount", "1;2;3"], {"id", "ts"}, Format())
    assert found == {"skip_lines": 2, "separator": ";"}
    assert fitting.as_setting({"separator": "\t", "fraud_values": ["Y"]}) == (
        'data.format.separator: "\\t"; data.format.fraud_values: ["Y"]'
    )


texts = st.lists(st.text(st.sampled_from("0123456789.,:/- $€TZamp+JanFeb\n'é²٣"), max_size=20), max_size=6)


@settings(deadline=None, max_examples=200)
@given(texts)
def test_whatever_is_suggested_reads_the_texts(found: list[str]) -> None:
    """Fails when following the advice of a message does not help, or making it ends in a stack trace."""
    present = [text for text in found if text.strip().lower() not in MISSING]
    for guess in fitting.times(found):
        assert read_times(pa.array(present, pa.string()), Format.model_validate(guess)).null_count == 0
    fitting.amounts(found)
    fitting.labels(found)
    fitting.separators(found)
    fitting.header(found, {"a"}, Format())
    fitting.encoding("".join(found).encode("utf-16")[1:])


def test_a_damaged_time_has_no_form() -> None:
    """Fails when one damaged time ends the search for a setting, and with it the message, in a stack trace."""
    assert fitting.times(["2025-01-0Z\x01Z1 10:00:00", "2025-01-02 10:01:00"]) == ()
