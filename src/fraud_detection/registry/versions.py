"""The registry of one model name: its champion, its runs, its rollbacks."""

import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.masking import mask
from fraud_detection.model.model import Model
from fraud_detection.registry.absence import last_champion, lost_champion, retirement_in_force
from fraud_detection.registry.aliases import (
    Pin,
    Retirement,
    Service,
    apply_pin,
    apply_retirement,
    delete_change,
    listed,
    service,
    set_change,
)
from fraud_detection.registry.artifacts import Facts, digest, load_model, log_model
from fraud_detection.registry.commit import (
    INTENT_FILE,
    INTENT_TAG,
    OPEN,
    PUBLICATION_FILE,
    SCORE,
    VERIFICATION_FILE,
    Ends,
    Intent,
    LoggedModel,
    Publish,
    apply_intent,
    exclusive,
    resume_intent,
)
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.decision_log import Action, DecisionLog, Intervention
from fraud_detection.registry.lease import Lease, Leases
from fraud_detection.registry.verification import generated_inputs
from fraud_detection.schema import Decision, Metrics, Outcome, Span

_MODEL_TAG = "fraud_detection.model"
_AS_OF_TAG = "fraud_detection.as_of"
_LONGEST_RUN = timedelta(days=1)
_LONGEST_VALUE = 5000  # of an MLflow parameter or tag
_PARAMETERS_A_BATCH = 100


@dataclass(frozen=True)
class Champion:
    """The model in service, and what it was trained on."""

    version: int
    run_id: str
    model: Model
    as_of: datetime
    training: Span


@dataclass(frozen=True)
class _Winner:
    """A model to promote, with generated rows as its booster takes them and the score of each."""

    model: Model
    verification: pd.DataFrame


class Registry:
    """Versions and decisions of one model name. Nothing is contacted before the first call.

    Args:
        tracking_uri: an MLflow server, or `sqlite:///PATH/mlflow.db` with artifacts in PATH/mlartifacts.
        model_name: the registered model and the experiment.
        decisions: where decisions are written down.
        leases: of the same output folder and model name.
        publish: what is done with a decision that is final; repeated where it was interrupted.
        config: the settings file, for the commands that a message names.
        output: the output folder, likewise.

    Raises:
        SettingsError: the address is not one of an MLflow service.

    Every method raises ServiceUnavailableError where MLflow does not answer, and FraudDetectionError where it refuses.
    """

    def __init__(
        self,
        tracking_uri: str,
        model_name: str,
        decisions: DecisionLog,
        *,
        leases: Leases,
        publish: Publish,
        config: str = "FILE",
        output: str = "DIR",
    ) -> None:
        self._connection = Connection(tracking_uri, model_name)
        self._name = model_name
        self._log = decisions
        self._ends = Ends(self._connection, decisions, leases, publish, self.command)
        self._options = {"--config": config, "--output": output, "--tracking-uri": self.shown_uri}

    @property
    def shown_uri(self) -> str:
        """The address of MLflow for people, without any password."""
        return self._connection.shown_uri

    def command(self, verb: str, *words: str) -> str:
        """A command line for a person, with the reason left to write."""
        return f'{self.command_without_reason(verb, *words)} --reason "…"'

    def command_without_reason(self, verb: str, *words: str) -> str:
        """A command line that finds this registry again."""
        options = [word for option in self._options.items() for word in option]
        return mask(shlex.join(["fraud-detection", verb, *options, *words]))

    @property
    def _retrain(self) -> str:
        return self.command_without_reason("retrain", "--input", "PATH")

    @property
    def _rollback_to_another(self) -> str:
        return self.command("rollback", "--to", "VERSION")

    def champion(self) -> Champion | None:
        """The model in service, loaded from its native file; None before the first promotion and after a retirement.

        Raises:
            FraudDetectionError: there is one and it cannot be loaded, or there should be one.
        """
        with self._connection.explained():
            version = self._require_no_loss().champion
            return None if version is None else self._load(version, serving=version)

    def require_no_loss(self) -> None:
        """Stop where no champion is in service although one was promoted and not retired.

        Raises:
            FraudDetectionError: so it is; the message names what is missing and the command that restores it.
        """
        with self._connection.explained():
            self._require_no_loss()

    def retirement(self) -> Retirement | None:
        """The retirement that left no champion in service, or None."""
        with self._connection.explained():
            now = service(self._connection, self._name)
            return None if now.champion is not None else retirement_in_force(now, self._log)

    def pinned(self) -> Pin | None:
        """The pin that stops automatic promotion, or None.

        Raises:
            FraudDetectionError: the tag that would hold it is unreadable.
        """
        with self._connection.explained():
            now = service(self._connection, self._name)
            now.require_readable_tag(self.command)
            return now.pin

    def record(
        self,
        decision: Decision,
        *,
        challenger: Model | None,
        publication: bytes | None,
        parameters: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> Decision:
        """Log a run with all it found, and bring its decision into force.

        A T that is decided already stays decided; nothing new is logged then.

        Args:
            decision: the outcome. `version` and `run_id` are filled in here.
            challenger: the model to promote. Only winners are kept; a loser can be trained again, bit for bit.
            publication: what to publish once the decision is final.
            parameters: nested settings.
            tags: further facts to find the run by, such as the data's fingerprint and the code's version.

        Returns:
            The decision that stands: the same, an earlier one of this T, or a refusal where a late check failed (the
            registered model scores differently, the champion changed meanwhile, a person pinned it).
        """
        Decision.model_validate_json(decision.model_dump_json())  # it will be read back from the log: NaN would not
        winner = _winner(decision, challenger)
        with self._connection.explained():
            settled = self._log.find(decision.as_of)
            if settled is not None:
                return settled
            self._end_abandoned_runs(decision.as_of)  # T is known by now, also where the data had to say it
            run = self._start_run(decision, tags)
            given = decision.model_copy(update={"run_id": run.info.run_id})
            model = None if winner is None else self._log_model(run, winner)
            intent = Intent(decision=given, model=model, publishes=publication is not None)
            self._log_facts(given, parameters, model)
            known = {INTENT_FILE: intent.model_dump_json(indent=2).encode()}
            if winner is not None:
                known[VERIFICATION_FILE] = winner.verification.to_parquet(index=False)
            if publication is not None:
                known[PUBLICATION_FILE] = publication
            self._log_files(run.info.run_id, known)
            self._connection.client.set_tag(run.info.run_id, INTENT_TAG, OPEN, synchronous=True)
            return apply_intent(self._ends, run, intent, None if winner is None else winner.verification)

    def complete_open_intents(self, as_of: datetime | None = None) -> tuple[Decision, ...]:
        """Finish what killed runs and rollbacks left unfinished, and return the decisions that came into force.

        Args:
            as_of: the T of the run that asks. Runs of this T that were killed before they had an intent are ended, as
                are those of any T that began more than a day ago; younger ones may be alive.
        """
        with self._connection.explained():
            self._finish_change()
            decided = tuple(resume_intent(self._ends, run) for run in self._open_intents())
            self._end_abandoned_runs(as_of)
            return decided

    def rollback(self, to: int | None, reason: str, who: str) -> Intervention:
        """Put an earlier version into service, and pin it.

        Args:
            to: the version; None is the previous champion.
            reason: why, for the log.
            who: for the log.

        Raises:
            FraudDetectionError: there is no such version, it cannot be loaded, it serves already, or a rollback to the
                previous champion has been made (once more would undo it).
        """
        finished = self._finish_what_can_be()
        if finished is not None and finished.action is Action.ROLLBACK and to in (None, finished.to_version):
            return finished  # asked for before, and killed on the way
        with self._connection.explained(), exclusive(self._ends, self._name, f"rollback by {who}") as lease:
            now = service(self._connection, self._name)
            target = self._rollback_target(now, to)
            self._load(target, now.champion)
            pin = Pin(at=lease.now(), who=who, reason=reason, from_version=now.champion, to_version=target)
            # First of all: from here on nothing promotes, and the next run finishes what is left undone.
            lease.require_held()
            set_change(self._connection, self._name, pin)
            return self._finish(pin, lease)

    def retire(self, version: int, reason: str, who: str) -> Intervention:
        """Take the champion out of service without another: the next run trains a first champion.

        It needs no files of the champion, so it is the way out where they, the version or the whole registered model
        are lost. A pin is removed with it.

        Args:
            version: the champion in service, or the lost one that should be; named so that no other is retired.
            reason: why, for the log.
            who: for the log.

        Raises:
            FraudDetectionError: another version is in service, or none ever was.
        """
        finished = self._finish_what_can_be()
        if finished is not None and finished.action is Action.RETIRE and finished.from_version == version:
            return finished  # asked for before, and killed on the way
        with self._connection.explained(), exclusive(self._ends, self._name, f"retire-champion by {who}") as lease:
            now = service(self._connection, self._name)
            self._require_to_be_champion(now, version)
            retirement = Retirement(at=lease.now(), who=who, reason=reason, version=version)
            if now.exists:
                lease.require_held()
                set_change(self._connection, self._name, retirement)
            return self._finish(retirement, lease)

    def unpin(self, reason: str, who: str) -> Intervention:
        """Let automatic promotion resume.

        Raises:
            FraudDetectionError: nothing is pinned.
        """
        self._finish_what_can_be()
        with self._connection.explained(), exclusive(self._ends, self._name, f"unpin by {who}") as lease:
            now = service(self._connection, self._name)
            if now.pin is None and now.unreadable_tag is None:
                raise FraudDetectionError(f"{self._name} is not pinned; automatic promotion is on")
            at = lease.now()
            version = now.champion if now.pin is None else now.pin.to_version
            record = Intervention(
                action=Action.UNPIN,
                model_name=self._name,
                at=at,
                who=who,
                reason=reason,
                from_version=version,
                to_version=version,
                pinned_at=at if now.pin is None else now.pin.at,
            )
            lease.require_held()
            self._log.write_intervention(record)
            lease.require_held()
            delete_change(self._connection, self._name)
            return record

    def _require_no_loss(self) -> Service:
        now = service(self._connection, self._name)
        if now.champion is None and retirement_in_force(now, self._log) is None:
            last = last_champion(now, self._log)
            if last is not None:
                raise lost_champion(self._connection, self._name, now, last, self.command)
        return now

    def _require_to_be_champion(self, now: Service, version: int) -> None:
        """Stop unless this is the champion in service, or the lost one."""
        serving = now.champion
        if serving is None:
            retired = retirement_in_force(now, self._log)
            if retired is not None:
                raise FraudDetectionError(
                    f"{self._name} has no champion to retire: {retired.text}; train a successor: {self._retrain}"
                )
            last = last_champion(now, self._log)
            if last is None:
                raise FraudDetectionError(f"{self._name} has no champion to retire; train one: {self._retrain}")
            serving = last.version
        if version != serving:
            raise FraudDetectionError(
                f"version {version} of {self._name} is not the champion: {serving} is; to retire it:"
                f" {self.command('retire-champion', '--version', str(serving))}"
            )

    def _load(self, version: int, serving: int | None) -> Champion:
        found = self._connection.client.get_model_version(self._name, str(version))
        try:
            facts = Facts.from_tags(found.tags)
            model = load_model(self._connection, self._name, version, facts.sha256)
        except ServiceUnavailableError:
            raise
        except FraudDetectionError as error:
            without = "" if serving is None else self.command("retire-champion", "--version", str(serving))
            raise FraudDetectionError(
                f"version {version} of {self._name} in MLflow at {self._connection.shown_uri} cannot be loaded: {error}"
                f"; restore its artifacts, or put another version into service: {self._rollback_to_another}"
                + (f"; where there is none: {without}" if without else "")
            ) from error
        return Champion(version, str(found.run_id), model, facts.as_of, facts.training)

    def _start_run(self, decision: Decision, tags: Mapping[str, str]) -> Any:  # noqa: ANN401
        known = {
            "mlflow.runName": f"{self._name} {decision.as_of:%Y-%m-%d %H:%M}",
            _MODEL_TAG: self._name,
            _AS_OF_TAG: _utc(decision.as_of),
            "fraud_detection.training": f"{decision.training.start.isoformat()}/{decision.training.end.isoformat()}",
            "fraud_detection.holdout": f"{decision.holdout.start.isoformat()}/{decision.holdout.end.isoformat()}",
        }
        known |= {f"fraud_detection.{name}": self._value(value) for name, value in tags.items()}
        begun = decision.decided_at - timedelta(seconds=sum(decision.seconds.values()))
        return self._connection.client.create_run(
            self._connection.experiment_id, start_time=int(begun.timestamp() * 1000), tags=known
        )

    def _log_model(self, run: Any, winner: _Winner) -> LoggedModel:  # noqa: ANN401
        inputs = winner.verification.drop(columns=SCORE)
        model_id = log_model(self._connection, run.info.run_id, winner.model, inputs)
        return LoggedModel(model_id=model_id, sha256=digest(winner.model.to_bytes()))

    def _log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            self._connection.client.log_artifacts(run_id, folder)

    def _log_facts(self, decision: Decision, parameters: Mapping[str, object], model: LoggedModel | None) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        run_id, model_id = decision.run_id, None if model is None else model.model_id
        metrics = [Metric(name, value, now, 0, model_id=model_id) for name, value in _metrics(decision).items()]
        params = [Param(name, self._value(value)) for name, value in _flat(parameters).items()]
        client = self._connection.client
        client.log_batch(run_id, metrics=metrics, params=params[:_PARAMETERS_A_BATCH], synchronous=True)
        for begin in range(_PARAMETERS_A_BATCH, len(params), _PARAMETERS_A_BATCH):
            client.log_batch(run_id, params=params[begin : begin + _PARAMETERS_A_BATCH], synchronous=True)

    def _value(self, value: object) -> str:
        text = self._connection.masked(str(value))
        return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"

    def _open_intents(self) -> list[Any]:
        """Runs with an open intent, in the order they began."""
        runs = self._search(f"tags.`{INTENT_TAG}` = '{OPEN}'")
        return sorted(runs, key=lambda run: int(run.info.start_time))

    def _end_abandoned_runs(self, as_of: datetime | None) -> None:
        oldest = (datetime.now(UTC) - _LONGEST_RUN).timestamp() * 1000
        for run in self._search("attributes.status = 'RUNNING'"):
            same = as_of is not None and run.data.tags.get(_AS_OF_TAG) == _utc(as_of)
            if INTENT_TAG not in run.data.tags and (same or run.info.start_time < oldest):
                self._connection.client.set_terminated(run.info.run_id, "KILLED")

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._connection.client.search_runs(
                [self._connection.experiment_id],
                f"tags.`{_MODEL_TAG}` = '{self._name}' and {condition}",
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _finish_what_can_be(self) -> Intervention | None:
        """Finish what was killed, as far as possible: no person's command may depend on an earlier one, or on a run.

        Returns:
            The rollback or retirement that came into force.
        """
        finished = None
        with suppress(FraudDetectionError), self._connection.explained():
            finished = self._finish_change()
        with suppress(FraudDetectionError):
            self.complete_open_intents()
        return finished

    def _finish_change(self) -> Intervention | None:
        """Finish the rollback, retirement or unpin that was killed on its way.

        Returns:
            The rollback or retirement that came into force.
        """
        if self._unfinished_change() is None:
            return None
        with exclusive(self._ends, self._name, "finishing a person's command") as lease:
            change = self._unfinished_change()  # another process may have finished it meanwhile
            if change is None:
                return None
            if self._is_unpinned(change):
                lease.require_held()
                delete_change(self._connection, self._name)
                return None
            return self._finish(change, lease)

    def _unfinished_change(self) -> Pin | Retirement | None:
        now = service(self._connection, self._name)
        now.require_readable_tag(self.command)
        change = now.pin or now.retirement
        if change is None or self._is_unpinned(change):
            return change
        return change if self._log.find_intervention(_action(change), change.at) is None else None

    def _is_unpinned(self, change: Pin | Retirement) -> bool:
        return self._log.find_intervention(Action.UNPIN, change.at) is not None

    def _finish(self, change: Pin | Retirement, lease: Lease) -> Intervention:
        """Move the aliases as a person has decided, and write it into the decision log."""
        lease.require_held()
        if isinstance(change, Pin):
            apply_pin(self._connection, self._name, change, self.command)
        elif service(self._connection, self._name).exists:
            apply_retirement(self._connection, self._name, change)
        record = _intervention(self._name, change)
        lease.require_held()
        self._log.write_intervention(record)
        return record

    def _rollback_target(self, now: Service, to: int | None) -> int:
        if not now.versions:
            self._require_no_loss()
            raise FraudDetectionError(f"{self._name} has no champion to roll back; train one: {self._retrain}")
        if to is None and now.pin is not None:
            raise FraudDetectionError(
                f"{self._name} was rolled back already: {now.pin.text}; automatic promotion resumes with:"
                f" {self.command('unpin')}; another version: {self._rollback_to_another}"
            )
        target = now.previous_champion if to is None else to
        found = listed(now.versions)
        if target is None:
            raise FraudDetectionError(
                f"{self._name} has no previous champion; name a version: {self._rollback_to_another};"
                f" there are: {found}; the champion is {_title(now.champion)}"
            )
        if target == now.champion:
            raise FraudDetectionError(
                f"version {target} of {self._name} is in service already; name another with --to; there are: {found}"
            )
        if target not in now.versions:
            raise FraudDetectionError(f"{self._name} has no version {target}; there are: {found}")
        return target


def _winner(decision: Decision, challenger: Model | None) -> _Winner | None:
    if decision.outcome is not Outcome.PROMOTED:
        return None
    if challenger is None:
        raise ValueError("a promotion needs the challenger")
    inputs = generated_inputs(challenger)
    return _Winner(challenger, inputs.assign(**{SCORE: challenger.predict(inputs)}))


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _action(change: Pin | Retirement) -> Action:
    return Action.ROLLBACK if isinstance(change, Pin) else Action.RETIRE


def _intervention(name: str, change: Pin | Retirement) -> Intervention:
    pin = change if isinstance(change, Pin) else None
    return Intervention(
        action=_action(change),
        model_name=name,
        at=change.at,
        who=change.who,
        reason=change.reason,
        from_version=change.version if isinstance(change, Retirement) else change.from_version,
        to_version=None if pin is None else pin.to_version,
        pinned_at=change.at,
    )


def _title(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _metrics(decision: Decision) -> dict[str, float]:
    found: dict[str, float] = {}
    for role, metrics in (("champion", decision.champion), ("challenger", decision.challenger)):
        if isinstance(metrics, Metrics):
            found |= {f"{role}_{name}": value for name, value in metrics.model_dump().items()}
    if decision.difference is not None:
        found |= {f"difference_{name}": value for name, value in decision.difference.model_dump().items()}
    for role, span in (("training", decision.training), ("holdout", decision.holdout)):
        found |= {f"{role}_transactions": span.transactions, f"{role}_frauds": span.frauds}
    return found


def _flat(parameters: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings by their dotted names."""
    found: dict[str, object] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
