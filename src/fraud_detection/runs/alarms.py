"""What needs a person's attention while it lasts: unsound data, and a champion that nothing better replaces."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from fraud_detection.commands import Commands
from fraud_detection.data_health.examination import Verdict
from fraud_detection.evaluation import amount_floor
from fraud_detection.monitoring.service_weeks import ServiceWeek
from fraud_detection.registry import Champion
from fraud_detection.registry.aliases import Pin
from fraud_detection.registry.predecessor import AUTOMATIC_ROLLBACK, rollback_reason
from fraud_detection.schema import Alarm, AlarmName, Decision, Estimate, LookRecord, RollbackLook
from fraud_detection.settings import Settings


@dataclass(frozen=True)
class Alarms:
    """Finds the alarms of one run. One that the run before had lasts since the time at which it was raised."""

    settings: Settings
    commands: Commands
    decided_at: datetime
    previous: Decision | None

    def of_data(self, verdict: Verdict) -> Alarm | None:
        """That the checks of the data stop the run, or None."""
        if not verdict.stops:
            return None
        failed = ", ".join(check.name for check in verdict.failed)
        text = (
            f"checks of the data failed ({failed}): runs open and measure nothing until the data are repaired, or the"
            " change is accepted (data_health.accepted)"
        )
        return self._alarm(AlarmName.UNSOUND_DATA, None, text)

    def of_age(self, champion: Champion, as_of: datetime, pin: Pin | None) -> Alarm | None:
        """That the champion was trained too long ago, or None."""
        days = self.settings.promotion.champion_max_age_days
        if as_of - champion.training.end <= timedelta(days=days):
            return None
        way = f"{pin.text}; next: {self.commands.unpin}" if pin else f"next: {self._replacements}"
        text = (
            f"champion v{champion.version} was trained on transactions up to {champion.training.end:%Y-%m-%d}, more"
            f" than {days} days ago (promotion.champion_max_age_days), and no candidate has replaced it since; {way}"
        )
        return self._alarm(AlarmName.CHAMPION_TOO_OLD, champion.version, text)

    def of_floor(self, look: LookRecord, rows: pd.DataFrame) -> Alarm | None:
        """That the champion is below the floor of a first champion, on the hold-out of a look, or None."""
        if look.champion is None:
            return self._known(AlarmName.CHAMPION_BELOW_FLOOR, look.champion_version)
        floor = amount_floor(rows["fraud"].to_numpy(), rows["amount"].to_numpy(), self.settings.comparison)
        found = look.champion.average_precision
        if found >= floor.average_precision:
            return None
        text = (
            f"champion v{look.champion_version} has an average precision of {found:.3f} on the hold-out from"
            f" {look.holdout.start:%Y-%m-%d} to {look.holdout.end:%Y-%m-%d}, below the floor"
            f" {floor.average_precision:.3f} of a first champion ({floor.origin}); next: {self._replacements}; an"
            f" earlier version serves with: {self.commands.rollback()}"
        )
        return self._alarm(AlarmName.CHAMPION_BELOW_FLOOR, look.champion_version, text)

    def of_earlier_look(self, champion: Champion) -> Alarm | None:
        """That the champion was below its floor when it was measured last, for a run that does not measure it."""
        return self._known(AlarmName.CHAMPION_BELOW_FLOOR, champion.version)

    def of_service(self, champion: Champion, weeks: Sequence[ServiceWeek]) -> Alarm | None:
        """That the champion was surely worse in its last measured week of service than in its first one, or None.

        Surely: the intervals of the average precision do not overlap, which chance does in fewer than one of a hundred
        pairs of equal weeks.
        """
        own = [week for week in weeks if week.version == champion.version and week.average_precision is not None]
        if not own:
            return None
        first, last = own[0], own[-1]
        at_first, now = first.average_precision, last.average_precision
        if at_first is None or now is None or at_first.low is None or now.high is None or now.high >= at_first.low:
            return None
        text = (
            f"champion v{champion.version} ranked worse in the week of {last.start:%Y-%m-%d} (average precision"
            f" {_interval(now)}) than in its first measured week of service, that of {first.start:%Y-%m-%d}"
            f" ({_interval(at_first)}); next: {self._replacements}; an earlier version serves with:"
            f" {self.commands.rollback()}"
        )
        return self._alarm(AlarmName.CHAMPION_DECAYED, champion.version, text)

    def of_rollback(self, look: RollbackLook | None, as_of: datetime, pin: Pin | None) -> Alarm | None:
        """That the rule rolls the champion back in this run, or has done so under the pin that lasts, or None."""
        if pin is not None and pin.who == AUTOMATIC_ROLLBACK and pin.rolls_back:
            left, serves, why = pin.from_version, pin.to_version, pin.reason
        elif look is not None and look.passed:
            left, serves, why = look.key.champion_version, look.key.predecessor_version, rollback_reason(look, as_of)
        else:
            return None
        text = (
            f"champion v{left} was rolled back to v{serves} by the rule (automatic_rollback), and v{serves} is pinned:"
            f" {why}; next: find out what changed; promotions resume with: {self.commands.unpin}"
        )
        return self._alarm(AlarmName.CHAMPION_ROLLED_BACK, left, text)

    def _alarm(self, name: AlarmName, champion_version: int | None, text: str) -> Alarm:
        known = self._known(name, champion_version)
        raised_at = self.decided_at if known is None else known.raised_at
        return Alarm(name=name, champion_version=champion_version, text=text, raised_at=raised_at)

    def _known(self, name: AlarmName, champion_version: int | None) -> Alarm | None:
        earlier = () if self.previous is None else self.previous.alarms
        return next((one for one in earlier if (one.name, one.champion_version) == (name, champion_version)), None)

    @property
    def _replacements(self) -> str:
        return (
            f"{self.commands.candidates} shows what could replace it; as an override a candidate serves with:"
            f" {self.commands.promote('CANDIDATE')}"
        )


def _interval(value: Estimate) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
