"""The settings of `data.format`: each is used as it was meant, or refused with what to write instead."""

from pathlib import Path

import pytest

from fraud_detection.errors import SettingsError
from fraud_detection.settings import Format, load_settings


def loaded(path: Path, text: str) -> Format:
    (path / "settings.yaml").write_text(f"data:\n  format:\n{text}\n", encoding="utf-8")
    return load_settings(path / "settings.yaml").data.format


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ('separator: ";;"', "one ASCII character"),
        ('separator: "\\n"', "one ASCII character"),
        ('separator: "§"', "one ASCII character"),
        ("separator: a", "one ASCII character"),
        ("separator: '\"'", "separator and quote are the same"),
        ("quote: '\"\"'", "null: none"),
        ("encoding: utf-99", "expected one such as utf-8"),
        ("encoding: hex", "expected one such as utf-8"),
        ("skip_lines: -1", "at least 0"),
        ('time_formats: ["dd.mm.yyyy"]', "does not say day, month and year|is not a form of strptime"),
        ('time_formats: ["%d.%m"]', "does not say day, month and year"),
        ('time_formats: ["%Q"]', "is not a form of strptime"),
        ("time_unit: weeks", "s, ms, us, ns, min, h or d"),
        ('time_unit: s\n    time_formats: ["%d.%m.%Y"]', "set one of them"),
        ("time_zone: Mars/Olympus", "expected one such as UTC"),
        ("time_zone: ../etc/passwd", "expected one such as UTC"),
        ('decimal_mark: ".,"', "one character"),
        ('thousands_mark: "."', "same character"),
        ("currency: ['']", "cannot stand beside an amount"),
        ("currency: ['1']", "cannot stand beside an amount"),
        ("fraud_values: [yes]", 'put it in quotes, such as "yes"'),
        ("fraud_values: [Y]\n    genuine_values: [' y ']", "y is in more than one of"),
        ("fraud_values: [0]", "say in genuine_values or unknown_values what 1 means then"),
    ],
)
def test_a_value_that_no_file_can_have_is_refused(tmp_path: Path, setting: str, expected: str) -> None:
    """Fails when a mistyped format is found only by an engine, after a minute, or reads other values than meant."""
    with pytest.raises(SettingsError, match=expected):
        loaded(tmp_path, f"    {setting}")


def test_values_are_taken_as_written(tmp_path: Path) -> None:
    """Fails when a tab, a number among label values or a date as origin is refused or changed."""
    found = loaded(
        tmp_path,
        '    separator: \\t\n    fraud_values: [2, "yes"]\n    unknown_values: [-1]\n    time_unit: h\n'
        '    time_origin: 2025-01-01\n    currency: [" EUR "]\n    encoding: latin-1\n    time_zone: Europe/Berlin',
    )
    assert found.separator == "\t"
    assert found.fraud_values == ("2", "yes")
    assert found.unknown_values == ("-1",)
    assert found.time_origin.year == 2025
    assert found.currency == ("EUR",)


def test_inverted_labels_can_be_said(tmp_path: Path) -> None:
    """Fails when a column that is 1 for good transactions cannot be mapped."""
    found = loaded(tmp_path, "    fraud_values: [0]\n    genuine_values: [1]")
    assert (found.fraud_values, found.genuine_values) == (("0",), ("1",))
