"""What a person does to the model in service or its log: roll back, pin, unpin, retire, accept; and the finishing of
what was killed.

A command first sets the tag of the registered model, then moves the aliases, then writes into the decision log. From
the tag on nothing is promoted, and the next run or command finishes what is left.
"""

from contextlib import suppress
from datetime import datetime

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.absence import last_champion, require_no_loss, retirement_in_force
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
from fraud_detection.registry.champion import Champion, load_version
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import Action, Entry, Intervention
from fraud_detection.registry.lease import Lease
from fraud_detection.registry.log_chain import (
    LogMismatchError,
    append,
    content_digest,
    verify_chain,
    write_and_tag,
)
from fraud_detection.registry.predecessor import AUTOMATIC_ROLLBACK, rollback_due, rollback_reason
from fraud_detection.registry.recording import end_abandoned_runs, resume_open_intents
from fraud_detection.registry.restoration import exclusive, is_superseded, restore_service
from fraud_detection.schema import Decision


def rollback(context: Context, to: int | None, reason: str, who: str) -> Intervention:
    """Put an earlier version into service, and pin it; see `Registry.rollback`."""
    finished = finish_what_is_possible(context)
    if finished is not None and finished.action is Action.ROLLBACK and to in (None, finished.to_version):
        return finished  # requested before, and killed half-way
    with context.connection.translate_errors(), exclusive(context, f"rollback by {who}") as lease:
        now = service(context.connection, context.name)
        if (done := _repeated(context, now, Action.ROLLBACK, reason, who)) and to in (None, done.to_version):
            return done
        target = _rollback_target(context, now, to)
        load_version(context, target, now.champion)
        pin = Pin(at=lease.now(), who=who, reason=reason, from_version=now.champion, to_version=target)
        lease.require_held()
        set_change(context.connection, context.name, pin)
        return _finish(context, pin, lease)


def roll_back_automatically(context: Context) -> Intervention | None:
    """Roll back as the newest decision has found; see `Registry.roll_back_automatically`."""
    with context.connection.translate_errors():
        if _due(context) is None:
            return None
        with exclusive(context, AUTOMATIC_ROLLBACK) as lease:
            decision = _due(context)  # a person may have acted meanwhile
            now = service(context.connection, context.name)
            now.require_readable_tag(context.commands)
            if decision is None or decision.rollback_look is None or now.pin or now.retirement:
                return None
            look = decision.rollback_look
            if now.champion != look.key.champion_version:
                return None
            load_existing(context, look.key.predecessor_version)
            change = Pin(
                at=lease.now(),
                who=AUTOMATIC_ROLLBACK,
                reason=rollback_reason(look, decision.as_of),
                from_version=look.key.champion_version,
                to_version=look.key.predecessor_version,
            )
            lease.require_held()
            set_change(context.connection, context.name, change)
            return _finish(context, change, lease)


def load_existing(context: Context, version: int) -> Champion:
    """Load a version that is not in service; see `Registry.load_version`."""
    now = service(context.connection, context.name)
    if version not in now.versions:
        raise FraudDetectionError(
            f"{context.name} has no version {version}; existing versions: {listed(now.versions)}; to put one of them"
            f" into service: {context.commands.rollback()}"
        )
    return load_version(context, version, now.champion)


def pin(context: Context, reason: str, who: str) -> Intervention:
    """Keep the champion in service until an unpin; see `Registry.pin`."""
    finished = finish_what_is_possible(context)
    if finished is not None and finished.action is Action.PIN:
        return finished  # requested before, and killed half-way
    with context.connection.translate_errors(), exclusive(context, f"pin by {who}") as lease:
        now = require_no_loss(context)
        now.require_readable_tag(context.commands)
        if done := _repeated(context, now, Action.PIN, reason, who):
            return done
        if now.pin is not None:
            raise FraudDetectionError(
                f"{context.name} is pinned already: {now.pin.text}; another version: {context.commands.rollback()}"
            )
        if now.champion is None:
            raise FraudDetectionError(f"{context.name} has no champion to pin; train one: {context.commands.retrain}")
        change = Pin(at=lease.now(), who=who, reason=reason, from_version=now.champion, to_version=now.champion)
        lease.require_held()
        set_change(context.connection, context.name, change)
        return _finish(context, change, lease)


def retire(context: Context, version: int, reason: str, who: str) -> Intervention:
    """Take the champion out of service without another; see `Registry.retire`."""
    finished = finish_what_is_possible(context)
    if finished is not None and finished.action is Action.RETIRE and finished.from_version == version:
        return finished  # requested before, and killed half-way
    with context.connection.translate_errors(), exclusive(context, f"retire-champion by {who}") as lease:
        now = service(context.connection, context.name)
        if (done := _repeated(context, now, Action.RETIRE, reason, who)) and done.from_version == version:
            return done
        _require_to_be_champion(context, now, version)
        retirement = Retirement(at=lease.now(), who=who, reason=reason, version=version)
        if now.exists:
            lease.require_held()
            set_change(context.connection, context.name, retirement)
        return _finish(context, retirement, lease)


def unpin(context: Context, reason: str, who: str) -> Intervention:
    """Let automatic promotion resume; see `Registry.unpin`."""
    finished = finish_what_is_possible(context)
    if finished is not None and finished.action is Action.UNPIN:
        return finished  # requested before, and killed half-way
    with context.connection.translate_errors(), exclusive(context, f"unpin by {who}") as lease:
        now = service(context.connection, context.name)
        if now.pin is None and now.unreadable_tag is None:
            return _completed_unpin(context, reason, who)
        at = lease.now()
        version = now.champion if now.pin is None else now.pin.to_version
        record = Intervention(
            action=Action.UNPIN,
            model_name=context.name,
            at=at,
            who=who,
            reason=reason,
            from_version=version,
            to_version=version,
            pinned_at=at if now.pin is None else now.pin.at,
        )
        written = append(context, lease, record)
        lease.require_held()
        delete_change(context.connection, context.name)
        return written or record


def accept_log(context: Context, reason: str, who: str) -> Intervention:
    """Go on with a decision log that is not the one that was written; see `Registry.accept_log`."""
    finish_what_is_possible(context)
    with context.connection.translate_errors(), exclusive(context, f"accept-log by {who}") as lease:
        try:
            verify_chain(context)
        except LogMismatchError:
            now, at = service(context.connection, context.name), lease.now()
            record = Intervention(
                action=Action.ACCEPT_LOG,
                model_name=context.name,
                at=at,
                who=who,
                reason=reason,
                from_version=now.champion,
                to_version=now.champion,
                pinned_at=at,
                previous_entry=content_digest(context.log),
            )
            write_and_tag(context, lease, record)
            return record
    raise FraudDetectionError(f"the decision log of {context.name} is the one that was written; nothing to accept")


def resume_all(context: Context, as_of: datetime | None = None) -> tuple[Entry, ...]:
    """Finish what killed runs and commands left unfinished; see `Registry.resume_open_intents`."""
    with context.connection.translate_errors():
        _finish_change(context)
        decided = resume_open_intents(context)
        end_abandoned_runs(context, as_of)
        return decided


def _finish_change(context: Context) -> Intervention | None:
    """Finish the rollback, pin, retirement or unpin that was killed half-way.

    Returns:
        What came into force.
    """
    if _unfinished_change(context) is None:
        return None
    with exclusive(context, "finishing a person's command") as lease:
        change = _unfinished_change(context)  # another process may have finished it meanwhile
        if change is None:
            return None
        unpinned = _find_unpin(context, change)
        if unpinned is not None:
            lease.require_held()
            delete_change(context.connection, context.name)
            return unpinned
        if is_superseded(change, context.log.history()):
            restore_service(context, lease)
            return None
        return _finish(context, change, lease)


def finish_what_is_possible(context: Context) -> Intervention | None:
    """Finish what was killed, as far as possible: no person's command may depend on an earlier one, or on a run.

    Returns:
        The command that came into force.
    """
    finished = None
    with suppress(FraudDetectionError), context.connection.translate_errors():
        finished = _finish_change(context)
    with suppress(FraudDetectionError):
        resume_all(context)
    return finished


def _due(context: Context) -> Decision | None:
    newest = context.log.newest(1)
    return rollback_due(newest[-1] if newest else None)


def _unfinished_change(context: Context) -> Pin | Retirement | None:
    now = service(context.connection, context.name)
    now.require_readable_tag(context.commands)
    change = now.pin or now.retirement
    if change is None or _find_unpin(context, change) is not None:
        return change
    return change if context.log.find_intervention(_action(change), change.at) is None else None


def _find_unpin(context: Context, change: Pin | Retirement) -> Intervention | None:
    return context.log.find_intervention(Action.UNPIN, change.at)


def _repeated(context: Context, now: Service, action: Action, reason: str, who: str) -> Intervention | None:
    """The entry of an earlier try of the same command, which was killed, or lost its connection, at its very end."""
    change = now.pin or now.retirement
    done = None if change is None else context.log.find_intervention(action, change.at)
    return done if done is not None and (done.who, done.reason) == (who, reason) else None


def _completed_unpin(context: Context, reason: str, who: str) -> Intervention:
    """The unpin of an earlier try of the same command, which was killed after it had taken effect.

    Raises:
        FraudDetectionError: the last command was another one.
    """
    last = context.log.last_intervention()
    if last is None or (last.action, last.who, last.reason) != (Action.UNPIN, who, reason):
        raise FraudDetectionError(f"{context.name} is not pinned; automatic promotion is on")
    return last


def _finish(context: Context, change: Pin | Retirement, lease: Lease) -> Intervention:
    """Move the aliases as a person has decided, and write it into the decision log."""
    lease.require_held()
    if isinstance(change, Pin):
        apply_pin(context.connection, context.name, change, context.commands)
    elif service(context.connection, context.name).exists:
        apply_retirement(context.connection, context.name, change)
    record = _intervention(context.name, change)
    return append(context, lease, record) or record


def _rollback_target(context: Context, now: Service, to: int | None) -> int:
    name, commands = context.name, context.commands
    if not now.versions:
        require_no_loss(context)
        raise FraudDetectionError(f"{name} has no champion to roll back; train one: {commands.retrain}")
    if to is None and now.pin is not None and now.pin.rolls_back:
        raise FraudDetectionError(
            f"{name} was rolled back already: {now.pin.text}; automatic promotion resumes with:"
            f" {commands.unpin}; another version: {commands.rollback()}"
        )
    target = now.previous_champion if to is None else to
    found = listed(now.versions)
    if target is None:
        champion = "none" if now.champion is None else f"version {now.champion}"
        raise FraudDetectionError(
            f"{name} has no previous champion; name a version: {commands.rollback()}; existing versions: {found};"
            f" the champion is {champion}"
        )
    if target == now.champion:
        raise FraudDetectionError(
            f"version {target} of {name} is in service already; name another with --to; existing versions: {found}"
        )
    if target not in now.versions:
        raise FraudDetectionError(f"{name} has no version {target}; existing versions: {found}")
    return target


def _require_to_be_champion(context: Context, now: Service, version: int) -> None:
    """Stop unless this is the champion in service, or the lost one."""
    name, serving = context.name, now.champion
    if serving is None:
        retired = retirement_in_force(now, context.log)
        if retired is not None:
            raise FraudDetectionError(
                f"{name} has no champion to retire: {retired.text}; train a successor: {context.commands.retrain}"
            )
        last = last_champion(now, context.log)
        if last is None:
            raise FraudDetectionError(f"{name} has no champion to retire; train one: {context.commands.retrain}")
        serving = last.version
    if version != serving:
        raise FraudDetectionError(
            f"version {version} of {name} is not the champion: {serving} is; to retire it:"
            f" {context.commands.retire_champion(serving)}"
        )


def _action(change: Pin | Retirement) -> Action:
    if isinstance(change, Retirement):
        return Action.RETIRE
    return Action.ROLLBACK if change.rolls_back else Action.PIN


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
