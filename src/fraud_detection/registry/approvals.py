"""What a person decides about a candidate: approve a winner, reject it, or promote a candidate as an override."""

from dataclasses import dataclass
from datetime import datetime

from fraud_detection.errors import FraudDetectionError
from fraud_detection.promotion import summarise
from fraud_detection.promotion.freezes import freeze_reason
from fraud_detection.registry import candidates
from fraud_detection.registry.absence import require_no_loss
from fraud_detection.registry.aliases import Service, service
from fraud_detection.registry.candidate_names import candidate_name, find_candidate
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import (
    PROMOTIONS,
    Action,
    Intervention,
    LogEntry,
    entry_time,
)
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.log_chain import append, verify_chain
from fraud_detection.registry.promotion_by_hand import HandIntent, apply_promotion, begin_promotion
from fraud_detection.registry.registration import LoggedModel
from fraud_detection.registry.restoration import exclusive
from fraud_detection.registry.reviews import Review, open_reviews, opened_candidates, settled_candidates
from fraud_detection.registry.rollback import finish_what_is_possible
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, Outcome, Threshold
from fraud_detection.settings import Promotion


@dataclass(frozen=True)
class _Command:
    """A person's command about one candidate, with the log that it was given for."""

    context: Context
    entries: tuple[LogEntry, ...]
    records: dict[CandidateKey, CandidateRecord]
    key: CandidateKey
    action: Action
    reason: str
    who: str

    @classmethod
    def of(
        cls, context: Context, entries: tuple[LogEntry, ...], candidate: str, action: Action, reason: str, who: str
    ) -> "_Command":
        """Find the candidate."""
        records = opened_candidates(entries)
        key = find_candidate(candidate, records, context.commands.candidates)
        return cls(context, entries, records, key, action, reason, who)

    @property
    def name(self) -> str:
        return candidate_name(self.key, self.records)

    def repeated(self) -> Intervention | None:
        """The entry of an earlier try of the same command, if no person did anything since, and no run promoted."""
        done = [entry for entry in self.entries if isinstance(entry, Intervention) or _promotes(entry)]
        last = done[-1] if done else None
        if not isinstance(last, Intervention):
            return None
        same = (last.action, last.candidate, last.who) == (self.action, self.key, self.who)
        return last if same else None

    def intervention(self, at: datetime, serving: int | None, review: Review | None) -> Intervention:
        """The entry for the log; a promotion puts the version in when there is one."""
        return Intervention(
            action=self.action,
            model_name=self.context.name,
            at=at,
            who=self.who,
            reason=self.reason,
            from_version=serving,
            to_version=None if self.action in PROMOTIONS else serving,
            pinned_at=at,
            candidate=self.key,
            decision_as_of=None if review is None else review.decision.as_of,
        )


def approve(context: Context, candidate: str, reason: str, who: str, settings: Promotion) -> Intervention:
    """Promote a candidate that waits for approval; see `Registry.approve`."""
    finish_what_is_possible(context)
    with context.connection.translate_errors():
        entries = verify_chain(context).entries  # the look that it passed is in the log
        command = _Command.of(context, entries, candidate, Action.APPROVE, reason, who)
        if (done := command.repeated()) is not None:
            return done
        _require_in_shadow(command)
        now, at = _require_unpinned(context), context.leases.clock()
        review = _require_waiting(command, now.champion, at, settings)
        _require_no_freeze(command, at, settings)
        return _promote(command, now, at, review)


def promote(context: Context, candidate: str, reason: str, who: str) -> Intervention:
    """Promote a candidate as an override; see `Registry.promote`."""
    finish_what_is_possible(context)
    with context.connection.translate_errors():
        command = _Command.of(context, context.log.entries(), candidate, Action.PROMOTE, reason, who)
        if (done := command.repeated()) is not None:
            return done
        _require_in_shadow(command)
        return _promote(command, _require_unpinned(context), context.leases.clock(), None)


def reject(context: Context, candidate: str, reason: str, who: str) -> Intervention:
    """Take a candidate out of shadow; see `Registry.reject`."""
    finish_what_is_possible(context)

    def write(lease: Lease) -> Intervention:
        command = _Command.of(context, context.log.entries(), candidate, Action.REJECT, reason, who)
        if (done := command.repeated()) is not None:
            return done
        _require_in_shadow(command)
        review = open_reviews(command.entries).get(command.key)
        now = require_no_loss(context)
        record = command.intervention(lease.now(), now.champion, review)
        return append(context, lease, record) or record

    with context.connection.translate_errors(), exclusive(context, f"reject by {who}") as lease:
        return write(lease)


def _require_in_shadow(command: _Command) -> None:
    fate = settled_candidates(command.entries).get(command.key)
    if fate is None:
        return
    context, commands = command.context, command.context.commands
    ways = f"; the candidates in shadow: {commands.candidates}"
    if fate.version is not None:
        serves = service(context.connection, context.name).champion == fate.version
        ways = ", and in service" if serves else f"; to put it into service: {commands.rollback(fate.version)}"
    raise FraudDetectionError(f"the candidate {command.name} {fate.text}{ways}")


def _require_unpinned(context: Context) -> Service:
    """What is in service.

    Raises:
        FraudDetectionError: the champion is lost, or a version is pinned.
    """
    now = require_no_loss(context)
    now.require_readable_tag(context.commands)
    if now.pin is not None:
        raise FraudDetectionError(f"{now.pin.text}; nothing is promoted until: {context.commands.unpin}")
    return now


def _require_waiting(command: _Command, serving: int | None, at: datetime, settings: Promotion) -> Review:
    found = open_reviews(command.entries)
    waiting = {key: one for key, one in found.items() if one.decision.champion_version == serving}
    review, commands = waiting.get(command.key), command.context.commands
    if review is None:
        raise FraudDetectionError(
            f"the candidate {command.name} does not wait for approval: it has passed no look against the champion in"
            f" service; {_listed(waiting, command, at, settings)}; to promote it all the same, as an override:"
            f" {commands.promote(command.name)}"
        )
    if at > review.expires_at(settings.approval_days):
        raise FraudDetectionError(
            f"the candidate {command.name} waited for approval until"
            f" {review.expires_at(settings.approval_days):%Y-%m-%d %H:%M} UTC (promotion.approval_days is"
            f" {settings.approval_days}); it waits again when it passes its next look; to promote it all the same, as"
            f" an override: {commands.promote(command.name)}"
        )
    return review


def _listed(waiting: dict[CandidateKey, Review], command: _Command, at: datetime, settings: Promotion) -> str:
    open_ = [key for key, one in waiting.items() if at <= one.expires_at(settings.approval_days)]
    names = ", ".join(candidate_name(key, command.records) for key in sorted(open_))
    return f"those that wait: {names}" if names else "none waits"


def _require_no_freeze(command: _Command, at: datetime, settings: Promotion) -> None:
    promotions = [entry_time(entry) for entry in command.entries if _promotes(entry)]
    reason = freeze_reason(max(promotions, default=None), at, settings)
    if reason is not None:
        raise FraudDetectionError(
            f"{reason}; approve it then, or as an override now: {command.context.commands.promote(command.name)}"
        )


def _promotes(entry: LogEntry) -> bool:
    if isinstance(entry, Decision):
        return entry.outcome is Outcome.PROMOTED
    return isinstance(entry, Intervention) and entry.action in PROMOTIONS


def _promote(command: _Command, now: Service, at: datetime, review: Review | None) -> Intervention:
    """Check the model, record the intent and apply it."""
    context = command.context
    try:
        record = candidates.locate(context, command.records[command.key])
    except candidates.CandidateLostError as error:
        raise candidates.CandidateLostError(
            f"{error}, which a run does when its next look is due; nothing was promoted; the others:"
            f" {context.commands.candidates}"
        ) from error
    model = candidates.load(context, record)
    intent = HandIntent(
        request=command.intervention(at, now.champion, review),
        model=LoggedModel(model_id=record.model_id, sha256=record.sha256, recipe=record.key.recipe),
        training=record.training,
        as_of=record.opened_at if review is None else review.decision.as_of,
        description=_description(command, review),
        threshold=_threshold(command),
    )
    done = apply_promotion(context, begin_promotion(context, intent, model), intent)
    if not done.written:
        raise FraudDetectionError(f"the candidate {command.name} was not promoted: {done.refusal}")
    return done.entry


def _threshold(command: _Command) -> Threshold | None:
    """Of the candidate's newest look that measured one; None where no look did."""
    decisions = (entry for entry in command.entries if isinstance(entry, Decision))
    looks = [look for decision in decisions for look in decision.looks if look.candidate == command.key]
    return next((look.threshold for look in reversed(looks) if look.threshold is not None), None)


def _description(command: _Command, review: Review | None) -> str:
    if review is None:
        return f"**Override** by {command.who}, without the promotion rule: {command.reason}"
    return f"**Approved** by {command.who}: {command.reason}\n\n{summarise(review.decision)}"
