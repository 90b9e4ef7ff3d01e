"""What happens later: timers kept in the store, run by one thread, so that a restart loses none."""

import threading
import time
import uuid
from collections.abc import Callable

from emulator.store import Store

_LONGEST_WAIT = 60.0


class Clock(threading.Thread):
    """Runs each timer's action once its time has come, inside one transaction of the store."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="clock", daemon=True)
        self._store = store
        self._actions: dict[str, Callable[[str], None]] = {}
        self._changed = threading.Condition()
        self._scheduled = False  # since timers were looked at last, by another thread or by an action itself
        self._stopping = False

    def register(self, action: str, function: Callable[[str], None]) -> None:
        self._actions[action] = function

    def schedule(self, delay: float, action: str, target: str) -> None:
        """Call `action` with the id `target` after `delay` seconds."""
        self._store.put("timer", uuid.uuid4().hex, owner=target, name=action, data={"due": time.time() + delay})
        with self._changed:
            self._scheduled = True
            self._changed.notify()

    def cancel(self, target: str) -> None:
        for record in self._store.find("timer", owner=target):
            self._store.delete("timer", record.id)

    def run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._scheduled = False
            wait = self._run_due()
            with self._changed:
                self._changed.wait_for(lambda: self._scheduled or self._stopping, wait)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.join()

    def _run_due(self) -> float:
        """Run what is due, earliest first; returns the seconds until the next timer."""
        timers = sorted(self._store.find("timer"), key=lambda record: record.data["due"])
        for timer in timers:
            if timer.data["due"] > time.time():
                return min(_LONGEST_WAIT, max(0.0, float(timer.data["due"]) - time.time()))
            with self._store.transaction():
                if self._store.get("timer", timer.id) is None:
                    continue  # cancelled by what ran before it
                self._store.delete("timer", timer.id)
                self._actions[timer.name](timer.owner)
        return 0.0 if self._store.find("timer") else _LONGEST_WAIT
