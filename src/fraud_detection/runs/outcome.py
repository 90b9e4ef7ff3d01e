"""How a run ended, for its scheduler: `outcomes/<run name>.json`, written on every exit except a kill.

The scheduler of a cluster sees only whether a job failed, not its exit code.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fraud_detection.errors import (
    FraudDetectionError,
    InterruptedRunError,
    ServiceUnavailableError,
    is_interruption,
)
from fraud_detection.outputs import outcome_file
from fraud_detection.revision import code_revision
from fraud_detection.schema import (
    SCHEMA_VERSION,
    Alarm,
    Check,
    Decision,
    Difference,
    DriftRecord,
    LookRecord,
    Outcome,
    Stored,
    Unbounded,
)
from fraud_detection.storage import open_folder

_WORTH_RETRYING = {ServiceUnavailableError.exit_code, InterruptedRunError.exit_code}


class RetentionResult(Stored):
    """What a run has removed for its age after its decision, or why it could not."""

    removed: tuple[str, ...]  # one line for each kind
    error: str | None  # its decision stands nevertheless


class ScoringResult(Stored):
    """What a batch has scored."""

    batch: int | None  # None where transactions up to a later time have been scored already
    model_name: str
    as_of: datetime
    version: int  # of the champion, for the whole batch
    threshold: Unbounded | None
    rows: int
    alerts: int
    late: int
    rejected_rows: int  # of the input; they have no score
    files: tuple[str, ...]  # one for each day that has new scores
    alert_lists: tuple[str, ...]
    warnings: tuple[str, ...]


class CompletedDecision(Stored):
    """A decision that this run brought into force, or made, for a run that was killed."""

    decision: Outcome
    reason: str
    version: int | None
    as_of: datetime
    report: str | None
    completed_at: datetime


class RunOutcome(Stored):
    """How one run ended: with a decision, with an error, or with an error after its decision, which stands.

    What it decided is as in the decision log.
    """

    schema_version: int = 1  # of the decision; 1 in files of earlier releases
    decision: Outcome | None
    reason: str | None
    version: int | None
    as_of: datetime | None
    difference: Difference | None  # of the look with the largest root, like the checks; None without a look
    checks: tuple[Check, ...] = ()
    looks: tuple[LookRecord, ...] = ()
    alarms: tuple[Alarm, ...] = ()  # what a person has to look into
    drift: DriftRecord | None = None  # None where it was not measured, and in files of earlier releases
    report: str | None
    exit_code: int
    error: str | None
    retry: bool  # whether the same run may succeed later
    code_revision: str | None = None  # of the program that decided or failed; missing in files of earlier releases
    # Before this run began if it found the hour decided. Missing in files of earlier releases.
    decided_at: datetime | None = None
    completed: tuple[CompletedDecision, ...] = ()  # for runs that were killed, before this one decided
    # None without --retain, after the first run of a day, and in files of earlier releases.
    retention: RetentionResult | None = None
    scores: ScoringResult | None = None  # None without --score, without a champion, and in files of earlier releases


@dataclass
class Results:
    """What a run has decided so far."""

    decision: Decision | None = None
    """Its own."""
    completed: list[CompletedDecision] = field(default_factory=list)
    retention: RetentionResult | None = None
    scores: ScoringResult | None = None

    def complete(self, decision: Decision) -> None:
        """Note a decision of a run that was killed."""
        self.completed.append(
            CompletedDecision(
                decision=decision.outcome,
                reason=decision.reason,
                version=decision.version,
                as_of=decision.as_of,
                report=decision.report,
                completed_at=datetime.now(UTC),
            )
        )


@contextmanager
def record_run_outcome(output: str, run_name: str | None) -> Iterator[Results]:
    """Record how the block ends; it notes its results in what it gets. Without a name record nothing."""
    results = Results()
    if run_name is None:
        yield results
        return
    try:
        yield results
    except (Exception, KeyboardInterrupt) as error:  # a defect and an interrupt end the job as well
        with suppress(FraudDetectionError):  # the first error is the one to report
            _write(output, run_name, _failed(InterruptedRunError() if is_interruption(error) else error, results))
        raise
    if results.decision is not None:
        _write(output, run_name, _ended(results.decision, results))


def record_failure(
    output: str, run_name: str | None, error: FraudDetectionError, results: Results | None = None
) -> None:
    """Record that a run ends with this error, after what it has decided. Without a name record nothing."""
    if run_name is not None:
        _write(output, run_name, _failed(error, results or Results()))


def _ended(decision: Decision, results: Results) -> RunOutcome:
    return RunOutcome(
        schema_version=decision.schema_version,
        decision=decision.outcome,
        reason=decision.reason,
        version=decision.version,
        as_of=decision.as_of,
        difference=decision.difference,
        checks=decision.checks,
        looks=decision.looks,
        alarms=decision.alarms,
        drift=decision.drift,
        report=decision.report,
        decided_at=decision.decided_at,
        completed=tuple(results.completed),
        retention=results.retention,
        scores=results.scores,
        code_revision=decision.code_revision,
        exit_code=0,
        error=None,
        retry=False,
    )


def _failed(error: BaseException, results: Results) -> RunOutcome:
    exit_code = error.exit_code if isinstance(error, FraudDetectionError) else FraudDetectionError.exit_code
    reached = _undecided() if results.decision is None else _ended(results.decision, results)
    return reached.model_copy(
        update={
            "exit_code": exit_code,
            # The message of a defect may contain anything, a password too: it stays in the log.
            "error": str(error)
            if isinstance(error, FraudDetectionError)
            else f"{type(error).__name__}; see the log of the job",
            "retry": exit_code in _WORTH_RETRYING,
        }
    )


def _undecided() -> RunOutcome:
    return RunOutcome(
        schema_version=SCHEMA_VERSION,
        decision=None,
        reason=None,
        version=None,
        as_of=None,
        difference=None,
        report=None,
        exit_code=0,
        error=None,
        retry=False,
        code_revision=code_revision(),
    )


def _write(output: str, run_name: str, outcome: RunOutcome) -> None:
    open_folder(output).write_atomic(outcome_file(run_name), outcome.model_dump_json(indent=2).encode())
