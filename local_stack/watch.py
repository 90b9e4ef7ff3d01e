"""Find the jobs of Airflow that run but do nothing, and restart them.

supervisord restarts a process that ends. A scheduler that loses the database does not always end: its LocalExecutor
tells its workers to stop and waits for them without a limit; a worker that misses the word is waited for for ever
(https://github.com/apache/airflow/issues/67870 describes the same wait). No task is started any more. The heartbeat
in Airflow's database is the only sign that such a process works.
"""

from local_stack import airflow
from local_stack.components import COMPONENTS, SILENCE
from local_stack.settings import Stack
from local_stack.supervision import Supervisor, descendants, kill


def is_silent(heartbeat: float, started: float, now: float, patience: float) -> bool:
    """Whether a running job gives no sign of life.

    Args:
        heartbeat: the newest one of any such job, in seconds since the epoch; 0.0 if unknown, then nothing can be said.
        started: when its process was started.
        now: the present moment.
        patience: seconds from its start to its first heartbeat.
    """
    if heartbeat == 0.0:
        return False
    if heartbeat > started:
        return now - heartbeat > SILENCE
    return now - started > patience


class Watch:
    """Restarts a job that was silent at two looks one after the other.

    One look is not enough on a machine that has slept: its heartbeats are as old as the sleep, and young soon after.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._supervisor = Supervisor(stack)
        self._silent: dict[str, int] = {}
        """The components that were silent at the last look, with their process ids."""

    def look(self, now: float) -> list[str]:
        """Restart what hangs at `now` (seconds since the epoch); returns the components' names."""
        before, self._silent = self._silent, self._silent_at(now)
        hanging = [name for name, pid in self._silent.items() if before.get(name) == pid]
        for name in hanging:
            tasks = descendants(self._silent[name])
            self._supervisor.stop(name)
            kill(tasks)  # a task of a lost scheduler would delete the cluster at which its next try is looking
            self._supervisor.start(name)
        return hanging

    def _silent_at(self, now: float) -> dict[str, int]:
        running = {state.name: state for state in self._supervisor.states() if state.is_running}
        return {
            component.name: running[component.name].pid
            for component in COMPONENTS
            if component.job is not None
            and component.name in running
            and is_silent(
                airflow.heartbeat(self._stack, component.job), running[component.name].started, now, component.deadline
            )
        }
