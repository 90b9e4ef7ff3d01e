"""Why no champion is in service: none was ever promoted, it was retired, or it was lost.

A lost champion must not look like "none yet": the next challenger would be promoted without a comparison. The
decision log and the registry are read only if no champion is in service, which is rare.
"""

from dataclasses import dataclass

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry.aliases import Retirement, Service, listed, service
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import DecisionLog, Intervention, logged_change


@dataclass(frozen=True)
class LastChampion:
    """The version that should be in service."""

    version: int
    source: str
    """How it is known."""
    run_id: str | None = None
    """The MLflow run that registered it, if the decision log names it."""


def retirement_in_force(now: Service, log: DecisionLog) -> Retirement | None:
    """The retirement that left no champion in service, or None.

    The registry keeps it as a tag; if the whole registered model is lost, the decision log has it.
    """
    if now.retirement is not None:
        return now.retirement
    last = log.last_change()
    change = logged_change(last) if isinstance(last, Intervention) else None
    return change if isinstance(change, Retirement) else None


def last_champion(now: Service, log: DecisionLog) -> LastChampion | None:
    """The version that was last put into service according to the decision log or the registry, or None."""
    last = log.last_change()
    if isinstance(last, Intervention) and last.to_version is not None:
        return LastChampion(last.to_version, f"the {last.action} of {last.at:%Y-%m-%d %H:%M} UTC put it there")
    if last is not None and not isinstance(last, Intervention) and last.version is not None:
        return LastChampion(last.version, f"the decision at {last.as_of:%Y-%m-%d %H:%M} UTC promoted it", last.run_id)
    if now.pin is not None:
        return LastChampion(now.pin.to_version, f"it is pinned by {now.pin.who}")
    if now.missing_champion is not None:
        return LastChampion(now.missing_champion, "the alias champion names it")
    if now.versions:
        return LastChampion(now.versions[-1], f"it is the newest that was promoted, of {listed(now.versions)}")
    return None


def require_no_loss(context: Context) -> Service:
    """What is in service.

    Raises:
        FraudDetectionError: no champion is, although one was promoted and not retired.
    """
    now = service(context.connection, context.name)
    if now.champion is None and retirement_in_force(now, context.log) is None:
        last = last_champion(now, context.log)
        if last is not None:
            raise _lost_champion(context, now, last)
    return now


def _lost_champion(context: Context, now: Service, last: LastChampion) -> FraudDetectionError:
    """The error for a champion that should be in service and is not: what is missing, and how to restore it."""
    name, commands = context.name, context.commands
    version, at = last.version, f"in MLflow at {context.connection.shown_uri}"
    retire = commands.retire_champion(version)
    if last.version in now.versions:
        found = f"{name} has no alias champion {at}"
        ways = f"put it back: {commands.rollback(version)}, then: {commands.unpin}"
    elif now.versions:
        found = f"version {version} of {name} does not exist {at}; existing versions: {listed(now.versions)}"
        other = commands.rollback(now.versions[-1])
        ways = f"put another version into service: {other}, then: {commands.unpin}"
    else:
        found = f"no version of {name} exists {at}" if now.exists else f"there is no registered model {name} {at}"
        ways = _rename(context, last) or "check --tracking-uri, and restore the registry from a copy"
    return FraudDetectionError(
        f"the champion is lost: {found}, but version {version} should be in service ({last.source}); nothing was"
        f" trained; {ways}; or give it up, so that the next run trains a successor from the start: {retire}"
    )


def _rename(context: Context, last: LastChampion) -> str | None:
    """How to rename the registered model back, if it exists under another name."""
    if last.run_id is None:
        return None
    connection, name = context.connection, context.name
    found = {version.name for version in connection.client.search_model_versions(f"run_id = '{last.run_id}'")} - {name}
    if len(found) != 1:
        return None
    uri, other = connection.shown_uri, found.pop()
    program = f"import mlflow; mlflow.MlflowClient('{uri}', '{uri}').rename_registered_model('{other}', '{name}')"
    return f'it exists under the name {other}; rename it back: python -c "{program}"'
