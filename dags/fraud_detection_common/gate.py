"""Whether a run may begin, kept between runs in an Airflow variable; `attempts` has the rule."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, Variable

from fraud_detection_common.attempts import VARIABLE, Attempts

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def skip(context: Context, answer: dict[str, Any]) -> NoReturn:
    """Skip the run, with the reason in its log and XCom."""
    context["ti"].xcom_push(key="return_value", value=answer)  # a task that raises returns nothing
    raise AirflowSkipException(answer["reason"])


def require_undecided(context: Context, answer: dict[str, Any]) -> None:
    """Raise AirflowFailException if the run's hour is decided: a person who forces it sees that nothing is trained."""
    if answer["decided"] is None:
        return
    context["ti"].xcom_push(key="return_value", value=answer)
    following = datetime.fromisoformat(answer["decided"]) + timedelta(hours=1)
    raise AirflowFailException(
        f"{answer['reason']}, and a job would train nothing; the next hour to decide is "
        f"{following:%Y-%m-%d %H:%M} UTC; next: trigger the run then"
    )


def require_few_failures(context: Context, answer: dict[str, Any], limit: int) -> None:
    """Skip the run if too many before it ended without a decision; the first that is skipped notifies people."""
    attempts = _attempts()
    reason = attempts.reason_to_skip(context["run_id"], limit)
    if reason is None:
        return
    Variable.set(VARIABLE, attempts.noted().text)
    print(reason)
    skip(context, {**answer, "due": False, "reason": reason, "announce": not attempts.announced})


def record_attempt(context: Context, *, forced: bool) -> None:
    """Count the run until one decides."""
    Variable.set(VARIABLE, _attempts().begun(context["run_id"], forced=forced).text)


def forget_attempts() -> None:
    """A run has decided: whatever was wrong is not any more."""
    if _attempts().runs:
        Variable.set(VARIABLE, Attempts().text)


def _attempts() -> Attempts:
    return Attempts.parse(Variable.get(VARIABLE, None))
