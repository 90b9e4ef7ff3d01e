"""What a run would make of an input, without running: the same contract, explained."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from foreign_forms import FORMS, payments, write_form
from pyspark.sql import SparkSession

from fraud_detection.cli import main
from fraud_detection.initialization.initialize import examine
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.reader import read_transactions

CLOCK = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return payments(6000)


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with session(Engine.SAIL) as opened:
        yield opened


@pytest.fixture(scope="module")
def fingerprints(table: pd.DataFrame) -> dict[bool, str]:
    """What was found for files with ids, and for those without, whose ids are derived."""
    return {}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_payments_have_one_fingerprint_in_any_form(
    form: str, table: pd.DataFrame, spark: SparkSession, fingerprints: dict[bool, str], tmp_path: Path
) -> None:
    """Fails when a user whose file has another form gets other payments, and so another model, from the same table."""
    path = write_form(form, table, tmp_path)
    found = read_transactions(spark, examine(str(path), {}).settings().data, str(path), CLOCK).profile
    assert (found.rejected, found.rows, found.refunds) == ({}, 6000, 300 if form == "refunds" else 0)
    fingerprint = found.fingerprint(found.first, found.default_as_of)
    if form == "upper_case":  # other names of the extra columns are other columns
        fingerprint = fingerprints[True]
    assert fingerprint == fingerprints.setdefault(FORMS[form].same_ids, fingerprint)


def _missing_cards(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(card=table["card"].astype(str).where(table.index % 20 > 0, ""))


def _dashes(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(distance=table["distance"].astype(str).where(table.index % 4 > 0, "-"))


def _hours_without_zero(table: pd.DataFrame) -> pd.DataFrame:
    booked = table["booked"]
    return table.assign(booked=booked.dt.strftime("%Y-%m-%d ") + booked.dt.hour.astype(str) + booked.dt.strftime(":%M"))


def _mostly_unlabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(fraud=table["fraud"].astype(str).where(table.index % 5 == 0, ""))


def _dates_alone(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(booked=table["booked"].dt.date)


@pytest.mark.parametrize(
    ("change", "suffix", "warning"),
    [
        (_missing_cards, "csv", "300 without a card"),
        (_dashes, "csv", None),
        (_hours_without_zero, "csv", None),
        (_mostly_unlabelled, "csv", "80.0% of the matured transactions without a label"),
        (_dates_alone, "parquet", "00:00"),
        (_dates_alone, "csv", "00:00"),
    ],
)
def test_awkward_data_are_accepted_and_said(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    suffix: str,
    warning: str | None,
    table: pd.DataFrame,
    tmp_path: Path,
) -> None:
    """Fails when rows without a card, a dash or a date without a time need settings that `init` does not write."""
    path, config = tmp_path / f"some.{suffix}", tmp_path / "mine.yaml"
    changed = change(table)
    if suffix == "csv":
        changed.to_csv(path, index=False)
    else:
        changed.to_parquet(path)
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    assert done.exit_code == 0, done.stderr
    code, output, _ = _check(path, config)
    assert code == 0, output
    assert "6,000 read" in output
    assert "rejected" not in output
    assert warning is None or warning in output


def _check(path: Path, config: Path, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["check-data", "--config", str(config), "--input", str(path), *words])
    return done.exit_code, done.stdout, done.stderr


def test_data_that_fit_are_counted(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a user cannot see before a run how many frauds it would have."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    code, output, _ = _check(path, config, "--json")
    facts = json.loads(output)
    assert (code, facts["accepted"], facts["can_decide"]) == (0, True, True)
    assert (facts["transactions"], facts["frauds"]) == (6000, int(table["fraud"].sum()))
    assert facts["training_frauds"] >= 10
    few = _check(path, Path("conf/retraining.yaml").absolute())
    assert few[0] == 65
    assert "payment_id" in few[1]


def test_data_that_do_not_fit_name_every_reason_and_setting(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a user learns of the second wrong setting only after the first one is corrected."""
    plain, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    german = write_form("german", table, tmp_path)
    CliRunner().invoke(main, ["init", "--input", str(plain), "--config", str(config)])
    text = config.read_text().replace("  columns:", '  format: {separator: ";"}\n  columns:')
    config.write_text(text)
    code, output, _ = _check(german, config)
    assert code == 65
    for wanted in ("bad_amount 6,000", "unparseable_time 6,000", 'decimal_mark: ","', "%d.%m.%Y %H:%M"):
        assert wanted in output
    first = table.iloc[0]
    assert f"{first['amount']}".replace(".", ",") not in output


def test_a_run_without_enough_frauds_is_said_to_make_no_decision(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when a user waits for a decision that these data and settings cannot give."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    config.write_text(
        f"{config.read_text()}training: {{min_training_frauds: 5000}}\n".replace("\ntraining:\n", "\ntraining: {}\n#")
    )
    code, output, error = _check(path, config)
    assert (code, error) == (0, "")
    assert "no decision: " in output


def test_frauds_alone_are_said_to_make_no_decision(table: pd.DataFrame, tmp_path: Path) -> None:
    """Fails when an export of the frauds alone is called enough for a decision."""
    path, config = write_form("plain", table, tmp_path), tmp_path / "mine.yaml"
    CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    path = write_form("plain", table.assign(fraud=1), tmp_path)
    code, output, _ = _check(path, config)
    assert code == 0
    assert "holds one class only: all " in output
    assert json.loads(_check(path, config, "--json")[1])["can_decide"] is False


def test_a_path_that_does_not_exist_is_said_before_an_engine_starts(tmp_path: Path) -> None:
    """Fails when a typing error costs the start of an engine."""
    code, _, error = _check(tmp_path / "absent.csv", Path("conf/retraining.yaml").absolute())
    assert code == 65
    assert "does not exist" in error
    words = ["init", "--input", str(tmp_path / "absent.csv"), "--config", str(tmp_path / "mine.yaml")]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "does not exist" in done.stderr) == (65, True)
