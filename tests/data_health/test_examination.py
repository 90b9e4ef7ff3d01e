"""Which unsound data stop a run, and that sound data never do."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from simulated_years import START, Year, simulate

from fraud_detection.data_health.examination import Health
from fraud_detection.schema import KnownLabels
from fraud_detection.settings import HealthCheck, Settings

DAYS = 230
AS_OF = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=DAYS)
_OF_VALUES = {HealthCheck.NO_LEAKING_FEATURE, HealthCheck.INPUT_PSI, HealthCheck.SCORE_PSI}
MATURED = (AS_OF - timedelta(days=7)).date()


@pytest.fixture(scope="module")
def year() -> Year:
    return simulate(seed=11, days=DAYS)


def _stops(health: Health) -> set[str]:
    return {finding.check.name for finding in health.verdict.stops}


def _accepting(name: str, first: date, last: date) -> Settings:
    accepted = [{"check": name, "from": first, "to": last, "reason": "known"}]
    return Settings.model_validate({"data_health": {"accepted": accepted}})


def test_sound_data_pass_every_check_of_counts(year: Year) -> None:
    """Fails when an ordinary day stops a run, or a check is silently left out of the decision."""
    known = year.health(AS_OF - timedelta(days=1)).known
    verdict = year.health(AS_OF, known).verdict
    assert (verdict.stops, verdict.warnings) == ((), ())
    assert {check.name for check in verdict.checks} == set(HealthCheck) - _OF_VALUES


@pytest.mark.parametrize("seed", [3, 7])
def test_the_first_months_of_a_small_installation_raise_no_alarm(seed: int) -> None:
    """Fails when few days, which look alike by chance, make an ordinary one look odd and stop a young installation."""
    young = simulate(seed, 90, 1_500)
    for day in range(20, 90):
        as_of = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=day)
        assert young.health(as_of).verdict.stops == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "volume"),
    [(1, 7_200), (4, 500), *(pytest.param(*year, marks=pytest.mark.proof) for year in ((2, 7_200), (3, 1_500)))],
)
def test_a_quiet_year_raises_no_alarm(seed: int, volume: int) -> None:
    """Fails when a year without any change stops runs, so that people learn to switch the checks off."""
    first, days = 120, 365
    quiet = simulate(seed, first + days, volume)
    known: KnownLabels | None = None
    alarms = []
    for day in range(first, first + days):
        health = quiet.health(datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=day), known)
        known = health.known
        alarms += [finding.text for finding in health.verdict.stops]
        assert health.verdict.warnings == ()
    assert alarms == []


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_volume_that_halves_or_ends_stops_a_run(year: Year, share: float) -> None:
    """Fails when a broken feed trains and judges models on half of the shops."""
    broken = year
    for back in range(2, 5):
        broken = broken.with_volume((AS_OF - timedelta(days=back)).date(), share)
    health = broken.health(AS_OF)
    assert _stops(health) == {"volume_floor"}
    assert "volume_floor" in health.verdict.reason


def test_a_day_without_transactions_stops_a_run_at_once(year: Year) -> None:
    """Fails when an outage of a day is noticed only once its rows have matured."""
    assert _stops(year.with_volume((AS_OF - timedelta(days=2)).date(), 0.0).health(AS_OF)) == {"volume_floor"}


def test_volume_that_arrives_twice_stops_a_run(year: Year) -> None:
    """Fails when rows that were delivered four times count as four times the volume."""
    assert "volume_ceiling" in _stops(year.with_volume((AS_OF - timedelta(days=2)).date(), 4.0).health(AS_OF))


@pytest.mark.parametrize("back", [2, 3])
def test_a_holiday_stops_nothing(year: Year, back: int) -> None:
    """Fails when a public holiday with two fifths of the volume stops the runs of the days around it."""
    assert year.with_volume((AS_OF - timedelta(days=back)).date(), 0.4).health(AS_OF).verdict.stops == ()


def test_the_hours_that_a_daily_delivery_has_not_brought_yet_are_not_judged(year: Year) -> None:
    """Fails when data that arrive once a day stop every run of the evening."""
    evening = AS_OF - timedelta(hours=1)
    late = year.with_volume((AS_OF - timedelta(days=1)).date(), 0.0)
    assert late.health(evening).verdict.stops == ()
    eager = Settings.model_validate({"data_health": {"late_transactions_hours": 0}})
    assert _stops(late.health(evening, settings=eager)) == {"volume_floor"}


@pytest.mark.parametrize(
    ("frauds", "name"), [(700, "fraud_rate_ceiling"), (7_000, "fraud_rate_ceiling"), (0, "fraud_rate_floor")]
)
@pytest.mark.parametrize("back", [1, 30, 90])
def test_poisoned_labels_of_a_day_stop_a_run(year: Year, frauds: int, name: str, back: int) -> None:
    """Fails when a day of wrong labels, in training or hold-out, decides which model serves."""
    day = MATURED - timedelta(days=back)
    health = year.with_frauds(day, frauds).health(AS_OF)
    assert _stops(health) == {name}
    (finding,) = health.verdict.stops
    assert (finding.first, finding.last, finding.check.value) == (day, day, frauds)
    assert str(day) in health.verdict.reason


def test_a_poisoned_day_does_not_make_its_neighbours_look_odd(year: Year) -> None:
    """Fails when several poisoned days hide each other, or sound days are blamed beside them."""
    days = [MATURED - timedelta(days=back) for back in (3, 5, 6)]
    for day in days:
        year = year.with_frauds(day, 900)
    assert sorted(finding.first for finding in year.health(AS_OF).verdict.stops) == sorted(days)


def test_few_frauds_a_day_make_an_empty_day_no_alarm() -> None:
    """Fails when a small bank, for which a day without frauds is normal, is stopped by it."""
    small = simulate(seed=5, days=DAYS, transactions_per_day=500)
    assert small.with_frauds(MATURED - timedelta(days=3), 0).health(AS_OF).verdict.stops == ()


@pytest.mark.parametrize(("later", "stops"), [(0, set()), (8, set()), (48, {"label_delay"}), (72, {"label_delay"})])
def test_labels_that_arrive_later_than_before_stop_a_run(year: Year, later: int, stops: set[str]) -> None:
    """Fails when slow chargebacks turn the frauds of a hold-out into genuine rows, or some hours stop a run."""
    since = int((AS_OF - timedelta(days=15)).timestamp() // 3600)
    known = year.known_hour + later * (year.fraud_hour >= since)
    slow = Year(year.transactions, year.first_hour, year.fraud_hour, known)
    assert _stops(slow.health(AS_OF)) == stops


def _without_a_share(year: Year, share: float) -> Year:
    kept = np.arange(len(year.fraud_hour)) % 100 >= 100 * share
    return Year(year.transactions, year.first_hour, year.fraud_hour[kept], year.known_hour[kept])


@pytest.mark.parametrize(
    ("share", "stops"), [(0.01, set()), (0.05, {"known_frauds_kept"}), (0.5, {"known_frauds_kept"})]
)
def test_a_shrinking_label_table_stops_a_run(year: Year, share: float, stops: set[str]) -> None:
    """Fails when frauds that were known count as genuine, because their labels are gone, or corrections stop a run."""
    before = year.health(AS_OF - timedelta(hours=6)).known
    health = _without_a_share(year, share).health(AS_OF, before)
    assert _stops(health) == stops
    assert (health.known is None) == bool(stops), "what was known stays, so that the next run stops, too"


def test_a_slow_loss_of_labels_adds_up(year: Year) -> None:
    """Fails when a table may lose one percent of its labels in each run, for ever."""
    known, stopped = year.health(AS_OF - timedelta(days=1)).known, []
    for run in range(1, 7):
        health = _without_a_share(year, run / 100).health(AS_OF, known)
        known = health.known or known
        stopped.append(bool(health.verdict.stops))
    assert stopped[0] is False
    assert stopped[3:] == [True] * 3


def test_a_day_of_wrong_labels_is_not_missed_once_it_is_repaired(year: Year) -> None:
    """Fails when a run remembers poisoned labels as known, and their repair then stops every run as a loss."""
    day, known, stopped = MATURED - timedelta(days=3), None, []
    poisoned = year.with_frauds(day, 2_000)
    for back in range(12, 0, -1):  # also while the day has not matured, and no check judges it
        health = poisoned.health(AS_OF - timedelta(days=back / 2), known)
        known = health.known or known
        stopped.append(_stops(health))
    assert stopped[-1] == {"fraud_rate_ceiling"}
    assert stopped[0] == set()
    assert year.health(AS_OF, known).verdict.stops == ()


def test_an_accepted_change_only_warns_and_only_on_its_days(year: Year) -> None:
    """Fails when a known incident keeps a bank from ever retraining again, or accepting it hides another one."""
    day = MATURED - timedelta(days=3)
    poisoned = year.with_frauds(day, 900)
    health = poisoned.health(AS_OF, settings=_accepting("fraud_rate_ceiling", day, day))
    assert health.verdict.stops == ()
    assert len(health.verdict.warnings) == 1
    assert health.verdict.warnings[0].startswith("accepted (known): ")
    other = _accepting("fraud_rate_ceiling", day - timedelta(days=9), day - timedelta(days=1))
    assert _stops(poisoned.health(AS_OF, settings=other)) == {"fraud_rate_ceiling"}
    assert _stops(poisoned.health(AS_OF, settings=_accepting("volume_floor", day, day))) == {"fraud_rate_ceiling"}


def test_labels_whose_loss_was_accepted_are_not_missed_again(year: Year) -> None:
    """Fails when a clean-up of the label table has to be accepted in the settings of every later run."""
    before = year.health(AS_OF - timedelta(hours=6)).known
    cleaned = _without_a_share(year, 0.2)
    accepting = _accepting("known_frauds_kept", AS_OF.date() - timedelta(days=90), AS_OF.date())
    health = cleaned.health(AS_OF - timedelta(hours=1), before, accepting)
    assert health.verdict.stops == ()
    assert len(health.verdict.warnings) == 1
    assert cleaned.health(AS_OF, health.known).verdict.stops == ()


def test_a_check_that_does_not_stop_warns(year: Year) -> None:
    """Fails when a check that is taken from `data_health.stop` stops runs all the same, or is not shown."""
    poisoned = year.with_frauds(MATURED - timedelta(days=3), 900)
    stop = [name for name in HealthCheck if name != "fraud_rate_ceiling"]
    verdict = poisoned.health(AS_OF, settings=Settings.model_validate({"data_health": {"stop": stop}})).verdict
    assert verdict.stops == ()
    assert "900 frauds" in verdict.warnings[0]


def test_young_data_are_not_judged_by_a_history_that_they_do_not_have() -> None:
    """Fails when the first weeks of a new installation are stopped."""
    short = simulate(seed=6, days=20)
    as_of = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=20)
    verdict = short.with_volume((as_of - timedelta(days=2)).date(), 0.0).health(as_of).verdict
    assert verdict.stops == ()
