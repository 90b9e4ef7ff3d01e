"""The registry of one model name: its champion, its runs, its rollbacks."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from fraud_detection.commands import Commands
from fraud_detection.model.model import Model
from fraud_detection.registry import approvals, candidates, commit, retention, rollback
from fraud_detection.registry.absence import require_no_loss, retirement_in_force
from fraud_detection.registry.aliases import Pin, Retirement, service
from fraud_detection.registry.artifacts import ModelVersionTags
from fraud_detection.registry.candidates import NewCandidate
from fraud_detection.registry.champion import Champion, load_version
from fraud_detection.registry.connection import Connection
from fraud_detection.registry.context import Context, Publish
from fraud_detection.registry.decision_log import DecisionLog, Entry, Intervention
from fraud_detection.registry.evidence import Evidence, collect_evidence
from fraud_detection.registry.lease import Leases
from fraud_detection.registry.log_chain import VerifiedLog, verify_chain
from fraud_detection.registry.mlflow_runs import log_service
from fraud_detection.registry.opening import write_opening
from fraud_detection.registry.predecessor import Predecessor, find_predecessor
from fraud_detection.registry.recording import RunRecord, end_abandoned_runs, record_decision
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, Opening
from fraud_detection.settings import Promotion
from fraud_detection.storage import Storage


class Registry:
    """Versions and decisions of one model name. Nothing is contacted before the first call.

    Args:
        tracking_uri: an MLflow server, or `sqlite:///PATH/mlflow.db` with artifacts in PATH/mlartifacts.
        model_name: the registered model and the experiment.
        decisions: the decision log.
        leases: of the same output folder and model name.
        publish: what is done with a decision that is final; repeated where it was interrupted.
        config: the settings file, for the commands that a message names.
        output: the output folder, likewise.

    Raises:
        SettingsError: the address is not one of an MLflow service.

    Every method raises ServiceUnavailableError if MLflow does not answer, and FraudDetectionError if it refuses.
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
        connection = Connection(tracking_uri, model_name)
        commands = Commands(config, output, connection.shown_uri)
        self._context = Context(model_name, connection, decisions, leases, publish, commands)

    @property
    def shown_uri(self) -> str:
        """The address of MLflow without any password."""
        return self._context.connection.shown_uri

    @property
    def commands(self) -> Commands:
        """Command lines that find this registry again."""
        return self._context.commands

    def champion(self) -> Champion | None:
        """The model in service, loaded from its native file; None before the first promotion and after a retirement.

        Raises:
            FraudDetectionError: there is one and it cannot be loaded, or there should be one.
        """
        with self._context.connection.translate_errors():
            version = require_no_loss(self._context).champion
            return None if version is None else load_version(self._context, version, serving=version)

    def require_no_loss(self) -> None:
        """Stop if no champion is in service although one was promoted and not retired.

        Raises:
            FraudDetectionError: the champion is lost; the message names what is missing and the command that restores
                it.
        """
        with self._context.connection.translate_errors():
            require_no_loss(self._context)

    def retirement(self) -> Retirement | None:
        """The retirement that left no champion in service, or None."""
        with self._context.connection.translate_errors():
            now = service(self._context.connection, self._context.name)
            return None if now.champion is not None else retirement_in_force(now, self._context.log)

    def pinned(self) -> Pin | None:
        """The pin that stops automatic promotion, or None.

        Raises:
            FraudDetectionError: the tag that would hold it is unreadable.
        """
        with self._context.connection.translate_errors():
            now = service(self._context.connection, self._context.name)
            now.require_readable_tag(self.commands)
            return now.pin

    def record(self, decision: Decision, record: RunRecord) -> Decision:
        """Log a run with all it found, and bring its decision into force.

        An as-of time that is decided already stays decided; nothing new is logged then.

        Args:
            decision: the outcome. `version` and `run_id` are filled in here.
            record: what to log beside it.

        Returns:
            The decision that stands: the same, an earlier one of this as-of time, or a refusal where a late check
            failed (the registered model scores differently, the champion changed meanwhile, a person pinned it).
        """
        Decision.model_validate_json(decision.model_dump_json())  # it will be read back from the log: NaN would not
        with self._context.connection.translate_errors():
            settled = self._context.log.find(decision.as_of)
            if settled is not None:
                return settled
            # Once more: at the start of the run its as-of time may have been unknown.
            end_abandoned_runs(self._context, decision.as_of)
            return record_decision(self._context, decision, record)

    def publish_again(self, decision: Decision) -> None:
        """Publish what belongs to a decision of the log once more, where somebody has deleted or damaged it.

        Raises:
            FraudDetectionError: MLflow does not hold what the run published.
        """
        with self._context.connection.translate_errors():
            commit.publish_again(self._context, decision)

    def resume_open_intents(self, as_of: datetime | None = None) -> tuple[Entry, ...]:
        """Finish what killed runs and commands left unfinished, and return the entries that came into force.

        Args:
            as_of: the as-of time of the run that asks. Runs of this time that were killed before they had an intent
                are ended, as are those of any time that began more than a day ago; younger ones may be alive.
        """
        return rollback.resume_all(self._context, as_of)

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
        return rollback.rollback(self._context, to, reason, who)

    def roll_back_automatically(self) -> Intervention | None:
        """Put the champion's predecessor into service, and pin it, if the newest decision found it better.

        Nothing is done once a person has done anything since that decision. Repeated after a kill, it does what is
        left.

        Returns:
            What came into force; None where nothing was due.

        Raises:
            FraudDetectionError: the predecessor cannot be loaded.
        """
        return rollback.roll_back_automatically(self._context)

    def predecessor(self, champion_version: int) -> Predecessor | str:
        """The version that the champion replaced, or why no automatic rollback returns to it.

        Raises:
            FraudDetectionError: an entry of the log is broken.
        """
        return find_predecessor(self._context.log.history(), champion_version)

    def load_version(self, version: int) -> Champion:
        """Any version, loaded from its native file.

        Raises:
            FraudDetectionError: it does not exist, or cannot be loaded.
        """
        with self._context.connection.translate_errors():
            return rollback.load_existing(self._context, version)

    def pin(self, reason: str, who: str) -> Intervention:
        """Keep the champion in service: nothing is promoted until an unpin.

        Raises:
            FraudDetectionError: no champion is in service, or a version is pinned already.
        """
        return rollback.pin(self._context, reason, who)

    def retire(self, version: int, reason: str, who: str) -> Intervention:
        """Take the champion out of service without another: the next run trains a first champion.

        It needs no files of the champion, so it also works if the files, the version or the whole registered model
        are lost. A pin is removed with it.

        Args:
            version: the champion in service, or the lost one that should be; named so that no other is retired.
            reason: why, for the log.
            who: for the log.

        Raises:
            FraudDetectionError: another version is in service, or none ever was.
        """
        return rollback.retire(self._context, version, reason, who)

    def approve(self, candidate: str, reason: str, who: str, settings: Promotion) -> Intervention:
        """Promote a candidate that has passed a look and waits for approval.

        Args:
            candidate: its name, see `candidate_names`.
            reason: why, for the log.
            who: for the log.
            settings: with the change freeze, and how long a winner waits.

        Raises:
            FraudDetectionError: it does not wait (any longer), promotions are frozen, a version is pinned, the champion
                has changed, or the model is lost or is not the one that was compared.
        """
        return approvals.approve(self._context, candidate, reason, who, settings)

    def reject(self, candidate: str, reason: str, who: str) -> Intervention:
        """Take a candidate out of shadow: no look is taken at it any more, and the next run deletes its files.

        Raises:
            FraudDetectionError: there is no such candidate, or it is retired, rejected or promoted already.
        """
        return approvals.reject(self._context, candidate, reason, who)

    def promote(self, candidate: str, reason: str, who: str) -> Intervention:
        """Promote a candidate as an override: whatever its looks say, and during a change freeze.

        Raises:
            FraudDetectionError: there is no such candidate, it is retired, rejected or promoted already, its model is
                lost, or a version is pinned.
        """
        return approvals.promote(self._context, candidate, reason, who)

    def verified_log(self, since: datetime | None = None) -> VerifiedLog:
        """The entries of the decision log since then, by the times in their names, and all interventions.

        Args:
            since: see `log_view.recent_since`; None reads the whole log.

        Raises:
            LogMismatchError: entries are missing, were changed or do not follow from the others; the message names
                them, and the command that accepts the log as it is.
        """
        with self._context.connection.translate_errors():
            return verify_chain(self._context, since)

    def write_opening(self, opening: Opening, head: str) -> Opening:
        """Record what a run is going to measure; from then on its looks are charged.

        Args:
            opening: `opened_at` and `previous_entry` are filled in here.
            head: of the log from which the looks were found to be due (`VerifiedLog.head`).

        Returns:
            The opening of this as-of time: the same, or an earlier one. Only its looks may be measured.

        Raises:
            LogMovedError: another process has written into the log meanwhile; a retry can succeed.
        """
        with self._context.connection.translate_errors():
            return write_opening(self._context, opening, head)

    def freeze_candidate(self, candidate: NewCandidate, model: Model) -> CandidateRecord:
        """Keep the model of a candidate in an MLflow run of its own.

        A run of that key is reused if it holds the same model. If it holds another, the data have changed since, before
        the candidate was opened in the log: it is replaced.
        """
        with self._context.connection.translate_errors():
            return candidates.freeze(self._context, candidate, model)

    def load_candidate(self, record: CandidateRecord) -> Model:
        """The model of a candidate.

        Raises:
            CandidateLostError: it is missing or damaged; train it again, then `restore_candidate`.
        """
        with self._context.connection.translate_errors():
            return candidates.load(self._context, record)

    def locate_candidate(self, record: CandidateRecord) -> CandidateRecord:
        """The record with the run and the model that hold the candidate now: another run's, if it was restored.

        Raises:
            CandidateLostError: none does.
        """
        with self._context.connection.translate_errors():
            return candidates.locate(self._context, record)

    def restore_candidate(self, record: CandidateRecord, model: Model) -> CandidateRecord:
        """Keep the model of a lost candidate again, trained once more.

        Raises:
            CandidateChangedError: it is another model; the candidate cannot be looked at any more.
        """
        with self._context.connection.translate_errors():
            return candidates.restore(self._context, record, model)

    def delete_candidate(self, key: CandidateKey) -> None:
        """Delete the files of a retired candidate; those of a registered version stay."""
        with self._context.connection.translate_errors():
            candidates.delete(self._context, key)

    def find_removable(
        self, versions_before: datetime, runs_before: datetime, most: int | None = None
    ) -> retention.Removable:
        """The versions that served last before a time, and the runs that ended before one, that nothing needs.

        `most` is the number of runs, oldest first; None is all of them.

        Raises:
            LogMismatchError: the log, which says what is needed, is not the one that was written.
        """
        with self._context.connection.translate_errors():
            return retention.find_removable(self._context, versions_before, runs_before, most)

    def remove_versions(self, before: datetime) -> tuple[int, ...]:
        """Delete the versions that served last before a time and that nothing needs; which, is decided anew.

        Raises:
            LogMismatchError: see `find_removable`.
        """
        with self._context.connection.translate_errors():
            return retention.remove_versions(self._context, before)

    def remove_runs(self, runs: Iterable[retention.OldRun]) -> Iterator[retention.OldRun]:
        """Delete runs that `find_removable` has found, with their files, and yield each when it is gone."""
        with self._context.connection.translate_errors():
            yield from retention.remove_runs(self._context, runs)

    def trained_until(self, version: int) -> datetime:
        """The end of a version's training.

        Raises:
            FraudDetectionError: there is no such version, or its tags are missing or changed.
        """
        connection = self._context.connection
        with connection.translate_errors():
            tags = connection.client.get_model_version(self._context.name, str(version)).tags
            return ModelVersionTags.from_tags(tags).training.end

    def log_service(self, version: int, values: Mapping[str, float], at: datetime) -> None:
        """Add what a version was worth in the week that ended at a time to the metrics of its run."""
        with self._context.connection.translate_errors():
            log_service(self._context, version, values, at)

    def collect_evidence(self, storage: Storage, version: int) -> Evidence:
        """Everything that is recorded of a version; nothing is written.

        Raises:
            LogMismatchError: the log, which is the evidence, is not the one that was written.
            FraudDetectionError: nothing in the log has put this version into service, or MLflow has lost it.
        """
        with self._context.connection.translate_errors():
            return collect_evidence(self._context, storage, version)

    def accept_log(self, reason: str, who: str) -> Intervention:
        """Go on with a decision log that is not the one that was written: what it holds counts from now on.

        Raises:
            FraudDetectionError: the log is the one that was written.
        """
        return rollback.accept_log(self._context, reason, who)

    def unpin(self, reason: str, who: str) -> Intervention:
        """Let automatic promotion resume; the same person with the same reason may repeat it.

        Raises:
            FraudDetectionError: nothing is pinned.
        """
        return rollback.unpin(self._context, reason, who)
