"""Folders with an odd file, with columns in the names of folders, and files that are no tables."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from foreign_forms import payments

from fraud_detection.cli import main
from fraud_detection.errors import DataError
from fraud_detection.initialization.initialize import examine


@pytest.fixture(scope="module")
def days() -> list[pd.DataFrame]:
    table = payments(3000)
    return [table[table.index % 3 == day] for day in range(3)]


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_file_with_other_columns_is_named(odd: int, suffix: str, days: list[pd.DataFrame], tmp_path: Path) -> None:
    """Fails when one odd file of a folder is found by opening all of them, because a good one is blamed."""
    for number, day in enumerate(days):
        written = day.rename(columns=lambda name: f"{name}_2") if number == odd else day
        path = tmp_path / f"{number}.{suffix}"
        written.to_csv(path, index=False) if suffix == "csv" else written.to_parquet(path)
    with pytest.raises(DataError, match=f"{odd}.{suffix}: has other columns than the rest: found payment_id_2"):
        examine(str(tmp_path), {})


def test_a_file_with_another_separator_is_named(days: list[pd.DataFrame], tmp_path: Path) -> None:
    """Fails when one file of a folder, exported by another program, is not told from the good ones."""
    for number, day in enumerate(days):
        day.to_csv(tmp_path / f"{number}.csv", index=False, sep=";" if number == 0 else ",")
    with pytest.raises(DataError, match=r"0\.csv: has other columns than the rest"):
        examine(str(tmp_path), {})


def test_a_column_that_one_file_lacks_is_left_out_and_said(days: list[pd.DataFrame], tmp_path: Path) -> None:
    """Fails when a column that an older file lacks stops `init`, or one that is needed is missed without its file."""
    for number, day in enumerate(days):
        day.drop(columns=["channel"] if number == 1 else []).to_csv(tmp_path / f"{number}.csv", index=False)
    assert "channel" in examine(str(tmp_path), {}).table.left_out
    days[2].drop(columns="amount").to_csv(tmp_path / "2.csv", index=False)
    with pytest.raises(DataError, match=r"found no amount: .*amount \(1 of 3 files lack it, such as 2\.csv\)"):
        examine(str(tmp_path), {})


def test_columns_in_the_names_of_folders_are_said(days: list[pd.DataFrame], tmp_path: Path) -> None:
    """Fails when the day of a partitioned table is searched in the files, though only its folders have it."""
    for number, day in enumerate(days):
        folder = tmp_path / "year=2025" / f"day={number}"
        folder.mkdir(parents=True)
        day.drop(columns="booked").to_parquet(folder / "part.parquet")
    with pytest.raises(DataError, match="year=, day= in the names of folders"):
        examine(str(tmp_path), {})


@pytest.mark.parametrize("lines", [True, False])
def test_json_is_said_to_be_json(lines: bool, days: list[pd.DataFrame], tmp_path: Path) -> None:
    """Fails when a file of JSON lines that is called .csv is refused for its columns."""
    days[0].to_json(tmp_path / "some.csv", orient="records", lines=lines)
    with pytest.raises(DataError, match=r"some\.csv: holds JSON"):
        examine(str(tmp_path), {})


@pytest.mark.parametrize(("days_", "doubt"), [(12, True), (40, False)])
def test_days_that_could_be_months_are_said_on_the_screen(days_: int, *, doubt: bool, tmp_path: Path) -> None:
    """Fails when a user reads only in a comment that all days may be months."""
    table = payments(2000)
    day = pd.Timestamp("2025-01-01") + pd.to_timedelta(table.index % days_, unit="D")
    table.assign(booked=day.strftime("%d/%m/%Y")).to_csv(tmp_path / "some.csv", index=False)
    words = ["init", "--input", str(tmp_path / "some.csv"), "--config", str(tmp_path / "mine.yaml")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    assert ("note        day and month" in done.stdout) is doubt


def test_lines_that_fit_no_header_are_said(tmp_path: Path) -> None:
    """Fails when a file whose fields hold unquoted separators is refused for a column that nobody asked for."""
    lines = "".join(f"{number},2025-01-01,{'x,' * (number % 4)}1\n" for number in range(50))
    (tmp_path / "some.csv").write_text(f"id,time,amount\n{lines}")
    with pytest.raises(DataError, match=r"some\.csv: most lines have another number of fields than the header"):
        examine(str(tmp_path), {})
