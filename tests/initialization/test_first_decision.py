"""From a foreign file to a first decision in two commands, without editing."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from foreign_forms import FORMS, payments, write_form

from fraud_detection.cli import main

IN_CI = (
    "plain", "gzip", "utf16", "german", "date_and_time", "labels_in_words", "no_id", "no_id_semicolon", "upper_case",
    "parquet_text",
)  # fmt: skip
MEASURED = ("decision", "data_fingerprint", "champion", "challenger", "difference", "training", "holdout")


def _first_decision(form: str, table: pd.DataFrame, folder: Path) -> dict[str, object]:
    path, config = write_form(form, table, folder), folder / f"{form}.yaml"
    done = CliRunner().invoke(main, ["init", "--input", str(path), "--config", str(config)])
    assert done.exit_code == 0, done.stderr
    words = [
        "retrain",
        "--config",
        str(config),
        "--input",
        str(path),
        "--output",
        str(folder / f"{form}_output"),
        "--json",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    decision: dict[str, object] = json.loads(done.stdout)
    return {name: decision[name] for name in MEASURED}


@pytest.mark.slow
@pytest.mark.parametrize(
    "forms", [IN_CI, pytest.param(tuple(FORMS), marks=pytest.mark.proof)], ids=["one of each kind", "all"]
)
def test_the_same_payments_get_the_same_first_decision_in_any_form(tmp_path: Path, forms: tuple[str, ...]) -> None:
    """Fails when the form of a file, or a guess of `init`, decides which model serves."""
    table = payments()
    found = {form: _first_decision(form, table, tmp_path) for form in forms}
    for form, decision in found.items():
        expected = found["plain" if FORMS[form].same_ids else "no_id"]
        assert expected["decision"] in {"promoted", "refused"}
        if form == "upper_case":  # the names of extra columns are part of the content, and only they differ
            expected = {**expected, "data_fingerprint": decision["data_fingerprint"]}
        assert decision == expected, form
