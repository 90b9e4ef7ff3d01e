"""`make down`, and what `make status` and `make logs` show."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from deployment.errors import DeploymentError
from local_stack import airflow, mlflow, runs
from local_stack.components import BY_NAME, COMPONENTS
from local_stack.console import Progress
from local_stack.passwords import passwords
from local_stack.settings import Stack, StackError
from local_stack.starting import newest_driver_log
from local_stack.supervision import Supervisor, end_left_behind, log_file, marked, memory, supervisord_pid, wait_gone


def down(stack: Stack, *, wait: bool = False) -> None:
    """Stop everything, the last started first, and report what that interrupts. Data is kept.

    Args:
        wait: let the active run end first, for a limited time.

    Raises:
        StackError: something cannot be stopped.
    """
    progress, supervisor = Progress(), Supervisor(stack)
    if supervisor.is_up():
        if wait:
            runs.wait_for_run(stack, progress)
        for line in runs.interrupted(stack):
            progress.report("cancelled", line)
        for component in reversed(COMPONENTS):
            with progress.step(component.name) as step:
                step.text = _stop(supervisor, component.name)
        supervisor.shut_down()
        wait_gone(stack)  # one that does not end is stopped below
    left = end_left_behind(stack)
    if left:
        progress.report("stopped", f"{left} leftover {'process' if left == 1 else 'processes'}")
    if still := marked(stack):
        raise StackError(f"still running: {', '.join(str(process.pid) for process in still)}; next: kill -9 them")
    progress.report("down", f"in {progress.seconds:.0f} s; data is kept in {stack.shown(stack.folder)}; next: make up")


def _stop(supervisor: Supervisor, name: str) -> str:
    """Stop a component. One that cannot be stopped does not delay the others; what is left of it is stopped later."""
    try:
        supervisor.stop(name)
    except StackError as error:
        return f"not stopped by supervisord: {error}"
    return "stopped"


def status(stack: Stack) -> Iterator[str]:
    """A table of the components, and how the training goes."""
    states = Supervisor(stack).states()
    supervisord = supervisord_pid(stack)
    used = memory([state.pid for state in states if state.pid])
    yield f"{'component':<15}{'state':<10}{'process':>8}{'since':>12}{'MiB':>7}  address"
    for state in states:
        component = BY_NAME[state.name]
        if not state.pid:
            yield f"{state.name:<15}{state.status.lower():<10}"
            continue
        shown = "ready" if state.is_running and component.is_ready(stack, 0.0) else state.status.lower()
        figures = f"{state.pid:>8}{_ago(time.time() - state.started):>12}{used[state.pid]:>7.0f}"
        yield f"{state.name:<15}{shown:<10}{figures}  {component.url(stack)}".rstrip()
    if any(state.pid for state in states) and supervisord:
        own = memory([supervisord])[supervisord] - sum(used.values())
        yield f"{'supervisord':<15}{'ready':<10}{supervisord:>8}{'':>12}{own:>7.0f}"
        yield f"{'all':<15}{'':<30}{sum(used.values()) + own:>7.0f}"
        yield from _training(stack)


def _training(stack: Stack) -> Iterator[str]:
    secret = passwords(stack.passwords)
    try:
        found = runs.training(stack)
        attention = list(runs.attention(stack, found))
        champion = mlflow.champion(stack, secret)
    except DeploymentError:
        return  # the table shows what is not ready
    if found.run_id:
        yield f"last run       {found.run_id}: {found.state}"
    for what, text in attention:
        yield f"{what:<15}{text}"
    yield f"champion       {f'version {champion}' if champion else 'none yet'}"
    yield f"passwords      {stack.shown(stack.passwords)} (user {airflow.ADMIN})"


def _ago(seconds: float) -> str:
    return str(timedelta(seconds=int(max(seconds, 0.0))))


def logs(stack: Stack, component: str | None) -> list[Path]:
    """The log files of a component, or of all; `job` is the last job's, `supervisord` that of supervisord.

    Raises:
        StackError: there is no such component.
    """
    files = {name: log_file(stack, name) for name in (*BY_NAME, "supervisord", "airflow-migrate")}
    driver = newest_driver_log(stack)
    if driver is not None:
        files["job"] = driver
    if component is None:
        return [path for path in files.values() if path.exists()]
    if component not in files:
        raise StackError(f"there is no component {component!r}; expected one of {', '.join(files)}")
    return [files[component]]
