"""A settings file for files of any form, found by looking at them."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import foreign_forms
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from foreign_forms import FORMS, payments, write_form
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.cli import main
from fraud_detection.errors import SettingsError
from fraud_detection.initialization import initialize
from fraud_detection.initialization.column import Column, luhn
from fraud_detection.initialization.labels import find_label_form
from fraud_detection.initialization.layout import find_layout
from fraud_detection.initialization.numbers import NumberForm, find_number_form
from fraud_detection.initialization.times import find_time_form
from fraud_detection.settings import load_settings
from fraud_detection.transactions import fitting
from fraud_detection.transactions.encodings import find_encoding

MAPPED = {"amount": "amount", "fraud": "fraud", "customer_id": "card", "terminal_id": "terminal"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return payments(6000)


def _init(path: Path, config: Path, *words: str) -> str:
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config), *words])
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_form_gets_settings_of_its_own(form: str, table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a user whose file has one of these forms has to correct the settings by hand."""
    path, config = write_form(form, table, tmp_path), tmp_path / "mine.yaml"
    output = _init(path, config)
    found = load_settings(config)
    columns = {name: str(value).lower() for name, value in found.data.columns}
    assert {name: columns[name] for name in MAPPED} == MAPPED
    assert columns["extra_numeric"] == "('distance',)"
    assert columns["extra_categorical"] == "('channel',)"
    assert (found.data.columns.transaction_id is None) is not FORMS[form].same_ids
    assert found.windows.training_window_days == 63
    assert f"next        {shlex.join(['fraud-detection', 'retrain', '--config', str(config)])}" in output


def test_a_settings_file_is_kept_unless_forced(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when `init` overwrites a file that a user has edited."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    config.write_text("model_name: edited\n")
    words = ["init", "--input", str(path), "--config", str(config)]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, config.read_text()) == (2, "model_name: edited\n")
    assert "--force" in done.stderr
    assert CliRunner().invoke(main, [*words, "--force"]).exit_code == 0
    assert "payment_id" in config.read_text()


def test_a_path_through_a_missing_folder_keeps_the_file(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when `init` overwrites an edited file whose path leads through a folder that is not there."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    config.write_text("model_name: edited\n")
    around = f"{tmp_path}/absent/../mine.yaml"
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", around])
    assert (done.exit_code, config.read_text()) == (2, "model_name: edited\n")


def test_a_file_that_appears_meanwhile_is_kept(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when `init` overwrites a file that was written while it looked at the data."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    found = initialize.examine(str(path), {})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SettingsError, match="exists already"):
        patch.setattr(initialize, "require_free", lambda *_, **__: config.write_text("model_name: edited\n"))
        initialize.write_settings(found, str(path), config, force=False)
    assert config.read_text() == "model_name: edited\n"


@pytest.mark.parametrize("place", [".", "plain.csv/mine.yaml", "x" * 300])
def test_a_path_that_cannot_be_written_is_a_wrong_argument(place: str, table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a scheduler retries a mistyped path, or the user is told to force it."""
    path = write_form("plain", table, tmp_path)
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(tmp_path / place)])
    assert done.exit_code == 2, done.stderr
    assert "--force" not in done.stderr


def test_columns_that_know_the_label_or_a_person_are_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a model is trained on what is filled in after the fraud, or on names and addresses."""
    fraud = table["fraud"] == 1
    known = table.assign(
        investigated=np.where(fraud, 1.0, 0.0) + np.linspace(0, 0.5, len(table)),
        case_number=np.where(fraud, "C-17", ""),
        chargeback_fee=np.where(fraud, 15.0, 0.0),
        holder_name="Erika Mustermann",
        contact=pd.Series([f"user{number % 700}@example.org" for number in range(len(table))]),
        bank="ACME",
        note=pd.Series([f"free text {number}" for number in range(len(table))]),
        row=np.arange(len(table)),
    )
    path, config = write_form("plain", known, tmp_path), tmp_path / "mine.yaml"
    output = _init(path, config)
    columns = load_settings(config).data.columns
    assert (columns.extra_numeric, columns.extra_categorical) == (("distance",), ("channel",))
    text = config.read_text()
    for name in ("investigated", "case_number", "chargeback_fee", "holder_name", "contact", "bank", "note", "row"):
        assert f"not used: {name}: " in text
    for name in ("investigated", "case_number", "chargeback_fee"):
        assert f"{name} is not used: " in output


def test_no_value_of_the_data_is_written_or_shown(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a settings file or a terminal shows a card number, a name or a terminal of the data."""
    secret = table.assign(
        card=pd.Series([f"4929{number:012d}" for number in table["card"]]),
        holder_name="Erika Mustermann",
        terminal=pd.Series([f"SECRET-{name}" for name in table["terminal"]]),
        channel=pd.Series([f"SECRET {name}" for name in table["channel"]]),
    )
    path, config = write_form("plain", secret, tmp_path), tmp_path / "mine.yaml"
    shown = _init(path, config) + config.read_text()
    assert not [word for word in ("SECRET", "4929", "Mustermann", "distance: ") if word in shown]


def test_missing_roles_name_the_option_that_gives_them(tmp_path: Path) -> None:
    """Fails when a file whose label has an unusual name leaves its user without a next step."""
    table = payments(3000).rename(columns={"fraud": "q1", "amount": "zz"})
    path, config = tmp_path / "odd.csv", tmp_path / "mine.yaml"
    table.to_csv(path, index=False)
    words = ["init", "--input", str(path), "--config", str(config)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 65
    assert "--column fraud=NAME" in done.stderr
    given = ["--column", "fraud=q1", "--column", "amount=zz"]
    assert CliRunner().invoke(main, [*words, *given]).exit_code == 0
    wrong = CliRunner().invoke(main, [*words, "--force", "--column", "fraud=absent"])
    assert (wrong.exit_code, "absent" in wrong.stderr) == (2, True)


def test_a_file_without_a_header_says_so(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when the first payment of a file is taken for the names of its columns."""
    path = tmp_path / "bare.csv"
    table.head(500).to_csv(path, index=False, header=False)
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(tmp_path / "mine.yaml")])
    assert done.exit_code == 65
    assert "expected a line with column names" in done.stderr
    assert "T0" not in done.stderr


def test_label_times_give_the_label_delay(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when labels that come after three weeks count as final after one, and their frauds as genuine."""
    days = np.random.default_rng(1).uniform(2, 21, len(table))
    late = (table["booked"] + pd.to_timedelta(days, unit="D")).where(table["fraud"] == 1)
    path, config = (
        write_form("plain", table.assign(reported_at=late.astype(str).replace("NaT", "")), tmp_path),
        tmp_path / "mine.yaml",
    )
    _init(path, config)
    found = load_settings(config)
    assert found.data.columns.label_available_at == "reported_at"
    assert found.windows.maturity_days == 20
    assert "90 % of the frauds are known after 20 days" in config.read_text()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1234.56", "7"], NumberForm()),
        (["1,234.56", "7.10"], NumberForm(".", ",")),
        (["1.234,56", "7,10"], NumberForm(",", ".")),
        (["26,38", "7,1"], NumberForm(",")),
        (["1,234", "12,345"], NumberForm(".", ",")),
        (["$1,234.50", "$7.10"], NumberForm(".", ",", ("$",))),
        (["7.10 EUR", "8.00 EUR"], NumberForm(".", None, ("EUR",))),
        (["-1 234,50 €", "7,10 €"], NumberForm(",", " ", ("€",))),
        (["12-34", "5/6"], None),
        (["T001", "T002"], None),
    ],
)
def test_amounts_are_read_by_their_marks(texts: list[str], expected: NumberForm | None) -> None:
    """Fails when 1,234 is read as one and a quarter, or a terminal's name as an amount."""
    assert find_number_form(dict.fromkeys(texts, 1), letters=True) == expected


@pytest.mark.parametrize(
    "form",
    ["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d-%b-%Y %H:%M:%S", "%Y/%m/%d %H:%M", "%Y%m%d", "%d.%m.%y"],
)
def test_times_are_read_by_the_form_that_lets_them_rise(form: str) -> None:
    """Fails when 03/04 is taken for the wrong month."""
    days = pd.date_range("2025-01-03", periods=300, freq="9h")
    found = find_time_form([day.strftime(form) for day in days])
    assert found is not None
    assert found.formats == (form,)


@pytest.mark.parametrize(
    ("counts", "fraud", "unknown"),
    [
        ({"N": 90, "Y": 10}, ("Y",), ()),
        ({"legit": 90, "Fraudulent": 10, "pending": 5}, ("Fraudulent",), ("pending",)),
        ({"0": 90, "1": 10, "2": 40}, (), ("2",)),
        ({"A": 95, "B": 5}, ("B",), ()),
        ({"-1": 95, "1": 5}, (), ()),
        ({"G": 95, "F": 5}, ("F",), ()),
        ({"settled": 90, "refunded": 5, "chargeback": 5}, ("chargeback",), ()),
        ({"ok": 90, "Betrug": 5, "offen": 5}, ("Betrug",), ("offen",)),
    ],
)
def test_labels_are_read_by_their_words_or_the_rarer_is_fraud(
    counts: dict[str, int], fraud: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    """Fails when genuine payments are learned as frauds."""
    import pyarrow as pa

    texts = [text for text, count in counts.items() for _ in range(count)]
    found = find_label_form(Column("label", pa.array(texts)))
    assert found is not None
    assert (found.fraud_values, found.unknown_values) == (fraud, unknown)


_LABELS = ["0", "1", "2", "-1", "f", "t", "g", "Y", "no", "Fraud", "confirmed_fraud", "pending", "ok", "ja", "red"]


@settings(deadline=None)
@given(st.sets(st.sampled_from(_LABELS), min_size=2))
def test_a_label_means_the_same_in_the_settings_file_and_in_messages(values: set[str]) -> None:
    """Fails when `init` writes one meaning of a label's values and the message of a rejected row advises another."""
    import pyarrow as pa

    found, advised = find_label_form(Column("label", pa.array(sorted(values)))), fitting.labels(values)
    if found is not None and advised is not None:
        for name in ("fraud_values", "genuine_values", "unknown_values"):
            assert sorted(getattr(found, name), key=str.lower) == advised.get(name, [])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("id;name\n1;Köln\n", "utf-8"),
        ("id;name\n1;Café\n", "latin-1"),
        ("ид;сумма\n1;пять\n", "cp1251"),
        ("a;b\n1;2\n", "utf-16"),
    ],
)
def test_an_encoding_is_seen_by_its_bytes(text: str, encoding: str) -> None:
    """Fails when a file of a bank abroad is called damaged."""
    content = text.encode(encoding)
    assert find_encoding([content]) == encoding
    layout = find_layout(content, encoding)
    assert (layout.separator, len(layout.columns), layout.has_header) == (";", 2, True)


def test_the_check_digit_of_a_card_number() -> None:
    """Fails when any long number is taken for that of a card, or a card's is not seen."""
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")


def test_the_base_table_is_what_the_forms_promise() -> None:
    """Fails when the forms are compared on a table with too few frauds to decide on."""
    table = foreign_forms.payments()
    assert len(table) == 20_000
    assert table["fraud"].sum() >= 600
    assert table["booked"].iloc[0].to_pydatetime().replace(tzinfo=UTC) == datetime(2000, 1, 1, tzinfo=UTC)


def test_two_days_without_cards_get_windows_in_hours(tmp_path: Path) -> None:
    """Fails when the best-known public data set, two days long, gets windows that no run can fill."""
    minutes = np.arange(0, 2 * 24 * 60, 1)
    random = np.random.default_rng(3)
    fraud = random.random(len(minutes)) < 0.05
    table = pd.DataFrame(
        {"Time": minutes * 60, "V1": random.normal(fraud, 1.0), "Amount": 9.5, "Class": fraud.astype(int)}
    )
    path, config = tmp_path / "numbers.csv", tmp_path / "mine.yaml"
    table.to_csv(path, index=False)
    output = _init(path, config)
    found = load_settings(config)
    assert found.data.columns.customer_id is None
    assert (found.data.format.time_unit, found.data.columns.extra_numeric) == ("s", ("V1",))
    windows = found.windows
    assert windows.label_delay_days == 0
    assert windows.maturity_days + windows.holdout_days + windows.training_window_days <= 2
    assert "since 2000-01-01" in output


def test_blocked_payments_and_a_control_group_are_mapped(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when blocked payments, which never get a label, are learned as genuine."""
    flags = table.assign(
        blocked=(table.index % 50 == 0).astype(int), control_group=(table.index % 500 == 1).astype(int)
    )
    path, config = write_form("plain", flags, tmp_path), tmp_path / "mine.yaml"
    _init(path, config)
    columns = load_settings(config).data.columns
    assert (columns.blocked, columns.control_group) == ("blocked", "control_group")
    assert columns.extra_numeric == ("distance",)


def test_missing_labels_are_unknown_and_not_genuine(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a 2 that means `not known yet` rejects the row, or counts as genuine."""
    pending = table.assign(fraud=table["fraud"].where(table.index % 3 > 0, 2))
    path, config = write_form("plain", pending, tmp_path), tmp_path / "mine.yaml"
    assert "unknown: 2 · 33.3% without a label" in _init(path, config)
    assert load_settings(config).data.format.unknown_values == ("2",)


def _refusal(path: Path, config: Path) -> str:
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    assert done.exit_code == 65
    return done.stderr


def test_a_truncated_compressed_file_is_refused_by_name(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when one damaged file of many is called a defect of the program, and its name is not told."""
    for day in range(3):
        table.to_csv(tmp_path / f"{day}.csv.gz", index=False)
    whole = (tmp_path / "1.csv.gz").read_bytes()
    (tmp_path / "1.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "1.csv.gz: cannot be read to its end" in _refusal(tmp_path, tmp_path / "mine.yaml")


def test_a_very_long_line_is_refused_with_its_file_and_number(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when one line of millions of fields crashes `init` without a word."""
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    path.write_text(path.read_text() + "," * (2 << 20) + "\n")
    assert "a.csv: line 6,002 is longer than 1,048,576 bytes" in _refusal(path, tmp_path / "mine.yaml")
