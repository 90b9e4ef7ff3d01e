"""What a server knows and does, without HTTP: score, follow the champion, follow the store.

`score` runs in one thread, that of the event loop. What takes long is prepared in another one, and put in place between
two scores: a champion once its file was verified, rows once all of them are there.
"""

import asyncio
import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from fraud_detection.commands import Commands
from fraud_detection.errors import FraudDetectionError
from fraud_detection.features.spans import label_delay
from fraud_detection.registry import Champion
from fraud_detection.runs.progress import Progress
from fraud_detection.serving.contract import Contract, Value
from fraud_detection.serving.history import History
from fraud_detection.serving.journal import Journal
from fraud_detection.serving.metrics import Metrics
from fraud_detection.serving.scorer import Score, Scorer
from fraud_detection.serving.state import Arrival, FeatureState, Mapped
from fraud_detection.settings import Settings
from fraud_detection.shapes import library_text

_FEW = 50
"""So many transactions are added between two scores, in a few milliseconds."""


class NotReadyError(Exception):
    """No version is in service."""


@dataclass(frozen=True)
class Answer:
    """A scored transaction."""

    transaction_id: str
    score: Score
    threshold: float | None
    model_version: int


@dataclass(frozen=True)
class _Knowledge:
    """The rows in memory and what belongs to them."""

    history: History
    state: FeatureState
    contract: Contract


class Sources(Protocol):
    """Where champions, rows and labels come from."""

    def version(self) -> int | None:
        """The version in service."""

    def champion(self, version: int) -> Champion:
        """A version, its file checked by its digest."""

    def manifest(self) -> int:
        """The number of the newest state of the store."""

    def history(self) -> History:
        """The newest state of the store."""


class Service:
    """A champion, the rows that its features depend on, and the journal of those that the store lacks."""

    def __init__(
        self, sources: Sources, settings: Settings, commands: Commands, journal: Path, progress: Progress
    ) -> None:
        """Load all of it.

        Raises:
            FraudDetectionError: no version is in service, or see `fraud_detection.errors`.
        """
        self._sources, self._settings, self._commands, self._progress = sources, settings, commands, progress
        self.metrics = Metrics()
        self._reported: dict[str, str] = {}
        """By event, the failure that lasts."""
        self._journal = Journal(journal)
        self._scorer: Scorer | None = self._first_scorer()
        if self._journal.dropped_bytes:
            progress("journal", f"{self._journal.dropped_bytes:,} bytes of an incomplete last line were dropped")
        arrived = self._journal.entries
        self._known, kept = self._prepared(sources.history(), arrived)
        self._journal.replace(kept, len(arrived))
        _settle()
        self.started = time.time()

    def score(self, given: Mapping[str, Value]) -> Answer:
        """Score a transaction as a batch over all that has arrived would, and remember it.

        Raises:
            ContractError: the transaction breaks the data contract.
            NotReadyError: no version is in service.
        """
        scorer, known = self._scorer, self._known
        if scorer is None:
            raise NotReadyError
        checked = known.contract.check(given, datetime.now(UTC))
        arrival = checked.arrival
        score = scorer.score({**known.state.features(arrival), **checked.extra})
        if not _is_forgotten(known.history, arrival):  # its rows are kept out
            self._remember(arrival)
        self.metrics.events["alerts"] += bool(score.alert)
        return Answer(str(arrival.id), score, scorer.threshold, scorer.version)

    @property
    def ready(self) -> bool:
        """Whether a version is in service."""
        return self._scorer is not None

    @property
    def version(self) -> int | None:
        """The version that scores."""
        return None if self._scorer is None else self._scorer.version

    def line(self) -> str:
        """What is served, for a person."""
        state = self._known.state
        rows = f"{state.loaded:,} rows of {state.cards:,} cards, and {state.arrived:,} of the journal"
        return f"v{self.version} · {rows}"

    def gauges(self) -> dict[str, float]:
        """What holds now; see `metrics.GAUGES`."""
        state = self._known.state
        return {
            "model_version": self.version or 0,
            "loaded_rows": state.loaded,
            "arrived_rows": state.arrived,
            "cards": state.cards,
            "store_manifest": self._known.history.manifest,
            "newest_row_timestamp_seconds": (state.newest or 0) / 1e6,
            "started_timestamp_seconds": self.started,
        }

    async def follow_champion(self, seconds: float) -> None:
        """Put another version into service once the alias names it and its file is verified; for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                changed, scorer = await asyncio.to_thread(self._changed_scorer)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is served stays, and the next look may work
                self._report("champion_failures", "the champion stays as it is", error)
                continue
            self._reported.pop("champion_failures", None)
            if changed:
                self._scorer = scorer
                self.metrics.events["champion_changes"] += 1
                self._progress("champion", "none is in service" if scorer is None else f"v{scorer.version} serves now")

    async def follow_store(self, seconds: float) -> None:
        """Load the rows and labels of each new state of the store; for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._load_newer()
                self._reported.pop("store_failures", None)
            except Exception as error:  # noqa: BLE001 - likewise
                self._report("store_failures", "rows and labels stay as they are", error)

    def _report(self, event: str, effect: str, error: Exception) -> None:
        """Count a failure; one that lasts is said once, since there is a look every few seconds."""
        self.metrics.events[event] += 1
        cause = (
            str(error)
            if isinstance(error, FraudDetectionError)
            else f"{type(error).__name__}: {library_text(str(error))}"
        )
        if self._reported.get(event) != cause:
            self._reported[event] = cause
            self._progress("warning", f"{effect}: {cause}")

    async def sync_journal(self, seconds: float) -> None:
        """Bring the journal to the disk in groups; for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(self._journal.sync)
                self._reported.pop("journal_failures", None)
            except OSError as error:
                self._report("journal_failures", "the journal is not on the disk yet", error)

    def close(self) -> None:
        """Bring the journal to the disk."""
        self._journal.close()

    def _first_scorer(self) -> Scorer:
        version = self._sources.version()
        if version is None:
            name, retrain = self._settings.model_name, self._commands.retrain
            raise FraudDetectionError(
                f"no version of {name} is in service, so nothing can be served; expected a champion; next: {retrain},"
                " which promotes the first one"
            )
        return self._scorer_of(self._sources.champion(version))

    def _scorer_of(self, champion: Champion) -> Scorer:
        return Scorer(champion, self._settings, self._commands)

    def _changed_scorer(self) -> tuple[bool, Scorer | None]:
        version = self._sources.version()
        if version == self.version:
            return False, None
        return True, None if version is None else self._scorer_of(self._sources.champion(version))

    async def _load_newer(self) -> None:
        newest = await asyncio.to_thread(self._sources.manifest)
        if newest <= self._known.history.manifest:
            return
        await self._take(await asyncio.to_thread(self._sources.history))

    async def _take(self, history: History) -> None:
        """Put newer rows in place, without those of the journal that the store has now."""
        before = len(self._journal.entries)
        known, kept = await asyncio.to_thread(self._prepared, history, self._journal.entries[:before])
        done = before
        while len(self._journal.entries) - done > _FEW:
            more = self._journal.entries[done:]
            await asyncio.to_thread(_add_all, known.state, more)
            done += len(more)
        await asyncio.to_thread(self._journal.replace, kept, before)
        _add_all(known.state, self._journal.entries[len(kept) + done - before :])
        self._known = known
        self.metrics.events["store_loads"] += 1
        _settle()

    def _prepared(self, history: History, arrived: list[Arrival]) -> tuple[_Knowledge, list[Arrival]]:
        """Rows in memory, and those that arrived and are not in the store."""
        settings = self._settings
        columns = settings.data.columns
        mapped = Mapped(columns.customer_id is not None, columns.terminal_id is not None, label_delay(settings))
        state = FeatureState(history.rows, mapped)
        missing, since = state.missing(one.id for one in arrived), history.since.timestamp() * 1e6
        kept = [one for one in arrived if one.id in missing and one.time >= since and not _is_forgotten(history, one)]
        _add_all(state, kept)
        return _Knowledge(history, state, Contract(settings.data, history.types, history.since)), kept

    def _remember(self, arrival: Arrival) -> None:
        if self._known.state.holds(arrival):
            self.metrics.events["repeated_transactions"] += 1
            return
        self._journal.append(arrival)  # first: what it refuses comes again, and is no repetition then
        self._known.state.add(arrival)


def _add_all(state: FeatureState, arrived: list[Arrival]) -> None:
    for one in arrived:
        state.add(one)


def _is_forgotten(history: History, arrival: Arrival) -> bool:
    forgotten = history.forgotten
    return bool(forgotten.hashes) and arrival.card is not None and forgotten.hash(str(arrival.card)) in forgotten.hashes


def _settle() -> None:
    """Keep the garbage collector from walking through the rows again and again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
