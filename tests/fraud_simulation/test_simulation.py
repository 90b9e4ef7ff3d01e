"""The simulated bank: the demo's data are reproducible, accepted by the library, and contain the described frauds."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.settings import Columns, Data
from fraud_detection.spark_session import Engine, session
from fraud_detection.transactions.reader import read_transactions
from fraud_simulation.command import create_data
from fraud_simulation.demo import DEMO, DRIFT_DATE, regimes
from fraud_simulation.dirt import Damage
from fraud_simulation.files import write_days, write_table
from fraud_simulation.fraud import TERMINAL_DAYS
from fraud_simulation.population import VALIDITY_DAYS, cards_on, population
from fraud_simulation.randomness import Stream, uniform
from fraud_simulation.transactions import NEVER_REPORTED, SCHEMA, day_table, hour_table, scenarios
from fraud_simulation.world import FileFormat, Regime, Scenario, World

SCRIPT = Path(__file__).parents[2] / "scripts" / "create_demo_data.py"
SMALL = World(seed=3, transactions_per_day=400, regimes=regimes())
MIDDLE = World(seed=5, transactions_per_day=5_000, regimes=regimes())
DAY = date(2026, 4, 15)


@pytest.fixture(scope="module")
def weeks() -> pd.DataFrame:
    """Ten weeks around the drift date, with the scenario of each row."""
    start = DRIFT_DATE - timedelta(weeks=5)
    days = [start + timedelta(days=offset) for offset in range(70)]
    rows: pd.DataFrame = pa.concat_tables([day_table(MIDDLE, day) for day in days]).to_pandas()
    return rows.assign(scenario=np.concatenate([scenarios(MIDDLE, day) for day in days]))


@pytest.fixture(scope="module")
def frauds(weeks: pd.DataFrame) -> pd.DataFrame:
    """The frauds among them, reported or not."""
    return weeks[weeks["scenario"] != Scenario.GENUINE]


def test_a_day_made_alone_equals_the_day_of_a_full_run(tmp_path: Path) -> None:
    """Fails when a day written again, or by the hourly feeder, contradicts the days already written."""
    for _ in write_days(SMALL, tmp_path / "all", DAY - timedelta(days=40), 45, dirty_share=0.02):
        pass
    arguments = ["--start", str(DAY), "--days", "1", "--seed", "3", "--transactions-per-day", "400"]
    arguments += ["--dirty-share", "0.02", "--output", str(tmp_path / "alone")]
    subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True)
    alone = tmp_path / "alone" / "transactions" / f"{DAY}.parquet"
    assert alone.read_bytes() == (tmp_path / "all" / "transactions" / f"{DAY}.parquet").read_bytes()


def test_the_hours_of_a_day_are_the_day() -> None:
    """Fails when a feeder that writes hour by hour loses or repeats transactions."""
    whole = day_table(SMALL, DAY, dirty_share=0.05)
    hours = [hour_table(SMALL, datetime(2026, 4, 15, hour, 59, tzinfo=UTC), 0.05) for hour in range(24)]
    key = [("transaction_id", "ascending"), ("transaction_time", "ascending"), ("amount", "ascending")]
    assert pa.concat_tables(hours).sort_by(key).equals(whole.sort_by(key))
    clean = hour_table(SMALL, datetime(2026, 4, 15, 18, tzinfo=UTC))["transaction_time"].to_pandas()
    assert len(clean) > 0
    assert set(clean.dt.hour) == {18}


def test_another_seed_makes_other_transactions() -> None:
    """Fails when repeating an experiment with another seed gives the same transactions."""
    other = World(SMALL.seed + 1, SMALL.transactions_per_day, SMALL.regimes)
    ours, theirs = day_table(SMALL, DAY).to_pandas(), day_table(other, DAY).to_pandas()
    assert len(set(ours["amount"]) & set(theirs["amount"])) < 0.2 * len(ours)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), offset=st.integers(-3000, 3000))
def test_every_day_keeps_its_contract(seed: int, offset: int) -> None:
    """Fails when some seed or date yields transactions that the library rejects."""
    day = DAY + timedelta(days=offset)
    table = day_table(World(seed, 100, regimes()), day)
    rows = table.to_pandas()
    assert table.schema.equals(SCHEMA)
    assert rows.drop(columns="label_available_at").notna().all().all()
    assert rows["transaction_id"].is_monotonic_increasing
    assert rows["transaction_time"].is_monotonic_increasing
    assert set(rows["transaction_time"].dt.date) == {day}
    cents = rows["amount"] * 100
    assert (rows["amount"] >= 0.01).all()
    assert (rows["amount"] == cents.round() / 100).all(), "an amount is not in whole cents"


def test_ids_are_unique_and_increase_with_the_day(weeks: pd.DataFrame) -> None:
    """Fails when transactions of different days share an id and are quarantined as duplicates."""
    assert weeks["transaction_id"].is_unique
    assert weeks["transaction_id"].is_monotonic_increasing


def test_volume_follows_the_week_and_the_hours(weeks: pd.DataFrame) -> None:
    """Fails when the demo's volume has no daily or weekly pattern, and calendar features have nothing to learn."""
    per_day = weeks.groupby(weeks["transaction_time"].dt.date).size()
    assert per_day.mean() == pytest.approx(MIDDLE.transactions_per_day, rel=0.03)
    by_weekday = per_day.groupby(lambda day: day.weekday()).mean()
    assert by_weekday[4] > 1.2 * by_weekday[6], "Fridays are not busier than Sundays"
    hour, weekend = weeks["transaction_time"].dt.hour, weeks["transaction_time"].dt.weekday >= 5
    assert (hour == 18).sum() > 10 * (hour == 3).sum()
    assert (hour[weekend] < 5).mean() > 2 * (hour[~weekend] < 5).mean()


def test_cards_have_a_level_and_a_home(weeks: pd.DataFrame) -> None:
    """Fails when the simulated cards do not differ, so that features of a card's past carry no information."""
    genuine = weeks[weeks["scenario"] == Scenario.GENUINE]
    busy = genuine[genuine.groupby("customer_id")["amount"].transform("size") >= 60]
    log_amount = np.log(busy["amount"])
    within = log_amount.groupby(busy["customer_id"]).std().median()
    assert log_amount.groupby(busy["customer_id"]).median().std() > within, "cards do not differ in what they spend"
    per_terminal = busy.groupby(["customer_id", "terminal_id"]).size()
    most_used = per_terminal.sort_values(ascending=False).groupby("customer_id").head(15)
    assert 0.85 < most_used.sum() / per_terminal.sum() < 0.98, "cards do not pay mostly near home and sometimes far"


def test_cards_come_and_closed_cards_stay_closed() -> None:
    """Fails when no new cards appear and their slice is empty, or a closed card comes back."""
    people = population(SMALL.seed, SMALL.transactions_per_day)
    first, gone, known = DAY.toordinal(), set[int](), set[int]()
    for day in range(first, first + 2 * VALIDITY_DAYS[1], 7):
        in_use = set(cards_on(people, day).customer_id.tolist())
        assert len(in_use) == people.slots
        assert not in_use & gone, "a closed card is in use again"
        gone |= known - in_use
        known |= in_use
    assert len(gone) > 2 * people.slots


def test_only_open_cards_are_used(weeks: pd.DataFrame) -> None:
    """Fails when simulated frauds go on with cards that are closed."""
    people = population(MIDDLE.seed, MIDDLE.transactions_per_day)
    for day, rows in weeks.groupby(weeks["transaction_time"].dt.date):
        assert isinstance(day, date)
        assert set(rows["customer_id"]) <= set(cards_on(people, day.toordinal()).customer_id.tolist())


def test_labels_come_late_and_some_never(frauds: pd.DataFrame, weeks: pd.DataFrame) -> None:
    """Fails when the demo's labels are all known at once, and its results look better than they are."""
    reported = frauds[frauds["fraud"] == 1]
    delay = (reported["label_available_at"] - reported["transaction_time"]).dt.total_seconds() / 86_400
    assert 5.0 < delay.quantile(0.9) < 7.0, "the label delay of 7 days covers fewer than nine of ten frauds"
    assert (delay > 0).all()
    assert (delay > 7.0).any(), "no label is later than the label delay"
    assert 1 - len(reported) / len(frauds) == pytest.approx(NEVER_REPORTED, abs=0.015)
    genuine = weeks[weeks["fraud"] == 0]
    assert genuine["label_available_at"].isna().all(), "a fraud that is never reported can be told from a genuine row"


def test_frauds_are_rare_and_change_on_the_drift_date(weeks: pd.DataFrame, frauds: pd.DataFrame) -> None:
    """Fails when the frauds do not change on the drift date, and the demo has no promotion to show."""
    assert 0.005 < weeks["fraud"].mean() < 0.012
    after = frauds["transaction_time"] >= pd.Timestamp(DRIFT_DATE, tz="UTC")
    before_counts = frauds[~after]["scenario"].value_counts()
    after_counts = frauds[after]["scenario"].value_counts()
    assert set(before_counts.index) == {1, 2, 3}
    assert set(after_counts.index) == {1, 2, 3, 4}
    assert after_counts[Scenario.CARD_TESTING] > 0.15 * after_counts.sum()
    assert after_counts[Scenario.LARGE_AMOUNT] < 0.75 * before_counts[Scenario.LARGE_AMOUNT]


def test_frauds_are_as_frequent_as_their_regime_says() -> None:
    """Fails when a scenario's frauds are more or less frequent than the configured rate."""
    long_ago = date(2020, 1, 1)
    world = World(9, 20_000, (Regime(long_ago, 2.0, 3.0, 2.0, 2.0),))
    kinds = np.concatenate([scenarios(world, DAY + timedelta(days=offset)) for offset in range(60)])
    found = 1000 * np.bincount(kinds, minlength=5)[1:] / len(kinds)
    assert found == pytest.approx([2.0, 3.0, 2.0, 2.0], rel=0.25)


def test_a_regime_takes_over_within_days() -> None:
    """Fails when the frauds change long before or after the drift date."""
    final = SMALL.regimes[-1].rate(Scenario.CARD_TESTING) * SMALL.transactions_per_day
    days = [DRIFT_DATE.toordinal() + offset for offset in (-1, 0, 1, 2, 300)]
    expected = [SMALL.expected(Scenario.CARD_TESTING, day) for day in days]
    assert expected == pytest.approx([0.0, final / 2, final, final, final])


def test_compromised_terminals_look_as_described(frauds: pd.DataFrame, weeks: pd.DataFrame) -> None:
    """Fails when compromised terminals are not simulated, and terminal features have nothing to find."""
    at_terminals = frauds[frauds["scenario"] == Scenario.COMPROMISED_TERMINAL]
    days = at_terminals["transaction_time"].dt.normalize()
    spells = days.groupby(at_terminals["terminal_id"]).agg(["min", "max", "size"])
    busy = spells[spells["size"] >= 20]
    assert len(busy) >= 5
    length = (busy["max"] - busy["min"]).dt.days + 1
    assert length.median() <= TERMINAL_DAYS[1]
    rows = weeks.merge(busy, left_on="terminal_id", right_index=True)
    day = rows["transaction_time"].dt.normalize()
    under_way = rows[(day >= rows["min"]) & (day <= rows["max"])]
    assert (under_way["scenario"] == Scenario.COMPROMISED_TERMINAL).mean() > 0.6
    assert _median_against_card(at_terminals, weeks) == pytest.approx(1.0, abs=0.25), "amounts are not normal"


def test_raised_amounts_and_card_testing_look_as_described(frauds: pd.DataFrame, weeks: pd.DataFrame) -> None:
    """Fails when raised amounts and card testing are not simulated, and card features have nothing to find."""
    for scenario in (Scenario.LARGE_AMOUNT, Scenario.LEAKED_CARD):
        assert _median_against_card(frauds[frauds["scenario"] == scenario], weeks) > 3.0
    leaked = frauds[frauds["scenario"] == Scenario.LEAKED_CARD]
    assert leaked.groupby("customer_id").size().median() >= 3
    testing = frauds[frauds["scenario"] == Scenario.CARD_TESTING]
    small = testing[testing["amount"] <= 3.0]
    bursts = small.groupby(["customer_id", small["transaction_time"].dt.date])["transaction_time"].agg(["min", "max"])
    assert ((bursts["max"] - bursts["min"]) <= pd.Timedelta(minutes=15)).mean() > 0.95
    used = testing[testing["amount"] > 3.0].groupby(["customer_id", testing["transaction_time"].dt.date])
    follows = used["transaction_time"].min() > bursts["max"].reindex(used["transaction_time"].min().index)
    assert follows.mean() > 0.95


def _median_against_card(frauds: pd.DataFrame, weeks: pd.DataFrame) -> float:
    """The median of the frauds' amounts over the median genuine amount of their cards."""
    normal = weeks[weeks["scenario"] == Scenario.GENUINE].groupby("customer_id")["amount"].median()
    return float((frauds["amount"] / frauds["customer_id"].map(normal)).median())


def test_dirty_rows_are_what_the_product_sets_aside(tmp_path: Path) -> None:
    """Fails when simulated dirty rows are not all rejected, or rejecting them loses clean transactions."""
    clean, dirty = day_table(MIDDLE, DAY), day_table(MIDDLE, DAY, dirty_share=0.02)
    added = len(dirty) - len(clean)
    assert added / len(dirty) == pytest.approx(0.02, rel=0.25)
    assert dirty.slice(0, len(clean)).equals(clean)
    write_table(dirty, tmp_path / "day.parquet")
    contract = Data(columns=Columns(label_available_at="label_available_at"))
    with session(Engine.SAIL) as spark:
        found = read_transactions(spark, contract, str(tmp_path), datetime(2026, 11, 1, tzinfo=UTC))
        kept = {row.transaction_id for row in found.table.select("transaction_id").collect()}
    assert kept == set(clean["transaction_id"].to_pylist())
    rejected = {reason: count for reason, count in found.profile.rejected.items() if count}
    expected = {"duplicate_id", "null_id", "bad_amount", "future_time", "bad_label", "label_before_transaction"}
    assert set(rejected) == expected
    assert sum(rejected.values()) == added
    assert max(rejected.values()) - min(rejected.values()) <= 1, f"{len(Damage)} kinds of dirt, not as often"


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a full disk leaves half a day of transactions that later runs take for the whole day."""
    path = tmp_path / "transactions" / f"{DAY}.parquet"
    for _ in write_days(SMALL, tmp_path, DAY, 1):
        pass
    before = path.read_bytes()

    def fill_the_disk(_: pa.Table, where: Path, **options: object) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_table(day_table(SMALL, DAY), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_writing_again_changes_nothing_and_another_format_takes_its_place(tmp_path: Path) -> None:
    """Fails when repeating the command counts transactions twice, once in each format."""
    for _ in write_days(SMALL, tmp_path, DAY, 2):
        pass
    first = {path.name: path.read_bytes() for path in (tmp_path / "transactions").iterdir()}
    for _ in write_days(SMALL, tmp_path, DAY, 2):
        pass
    assert {path.name: path.read_bytes() for path in (tmp_path / "transactions").iterdir()} == first
    for _ in write_days(SMALL, tmp_path, DAY, 1, form=FileFormat.CSV):
        pass
    assert {path.name for path in (tmp_path / "transactions").iterdir()} == {"2026-04-15.csv", "2026-04-16.parquet"}


def test_csv_holds_the_same_transactions(tmp_path: Path) -> None:
    """Fails when the demo's CSV and Parquet files hold different transactions."""
    write_table(day_table(SMALL, DAY), tmp_path / "day.csv")
    write_table(day_table(SMALL, DAY), tmp_path / "day.parquet")
    as_schema = pyarrow.csv.ConvertOptions(column_types=SCHEMA)
    csv = pyarrow.csv.read_csv(tmp_path / "day.csv", convert_options=as_schema)
    assert csv.equals(pq.read_table(tmp_path / "day.parquet"))


def test_the_command_says_what_it_wrote_and_refuses_nonsense(tmp_path: Path) -> None:
    """Fails when the command does not report what it wrote, or a mistyped date ends in a stack trace."""
    arguments = ["--output", str(tmp_path), "--days", "2", "--transactions-per-day", "300", "--start"]
    good = CliRunner().invoke(create_data, [*arguments, "2026-01-01"])
    assert good.exit_code == 0
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "transactions").iterdir())
    assert f"{rows:,} transactions" in good.output
    assert "2 files" in good.output
    bad = CliRunner().invoke(create_data, [*arguments, "yesterday"])
    assert bad.exit_code == 2
    assert "--start" in bad.output


def test_the_demo_is_in_the_past_and_its_data_covers_its_runs() -> None:
    """Fails when `make demo` rejects its own data as future, or a run lies after the end of the data."""
    end = DEMO.start + timedelta(days=DEMO.days)
    assert end < date(2026, 11, 1)
    assert max(DEMO.as_of).date() <= end
    assert list(DEMO.as_of) == sorted(DEMO.as_of)


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=50, unique=True))
def test_a_card_keeps_its_traits_whoever_is_beside_it(ids: list[int]) -> None:
    """Fails when a card's traits depend on which other cards are open, so that days written alone differ."""
    together = uniform(7, Stream.LEVEL, np.array(ids))
    alone = [uniform(7, Stream.LEVEL, np.array([number]))[0] for number in ids]
    assert together.tolist() == alone
    assert ((together > 0) & (together < 1)).all()


@pytest.mark.parametrize("option", ["--start", "--drift-date"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-30"])
def test_a_day_outside_the_calendar_is_refused(tmp_path: Path, option: str, day: str) -> None:
    """Fails when a mistyped date ends in a stack trace, or in data that no run accepts."""
    words = ["--output", str(tmp_path), "--days", "5", "--transactions-per-day", "10", option, day]
    ran = CliRunner().invoke(create_data, words)
    assert ran.exit_code == 2, ran.output
    assert f"found {day}; expected a day between 1970-01-01 and 2199-12-31" in " ".join(ran.output.split())


def test_a_full_disk_ends_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a newcomer's first command on a nearly full disk ends in a stack trace."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    words = ["--output", str(tmp_path), "--days", "1", "--transactions-per-day", "10"]
    ran = CliRunner().invoke(create_data, words)
    assert ran.exit_code == 1
    assert isinstance(ran.exception, SystemExit)
    assert "cannot be written: No space left on device; make room" in ran.output
