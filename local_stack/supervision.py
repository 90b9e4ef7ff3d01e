"""supervisord: its configuration, its start, what runs under it, and an end that leaves nothing behind."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from local_stack.components import BY_NAME, COMPONENTS, MARK, Component, base_environment
from local_stack.settings import ROOT, Stack, StackError

_LONGEST_SOCKET_PATH = 90  # of 108 that the system allows; supervisord appends its process id
_MIB = 2**20


@dataclass(frozen=True)
class State:
    """What supervisord says of one component."""

    name: str
    status: str
    pid: int
    started: float
    """Seconds since the epoch."""

    @property
    def is_running(self) -> bool:
        return self.status == "RUNNING"

    @property
    def has_given_up(self) -> bool:
        return self.status in ("FATAL", "EXITED", "STOPPED")


def socket_path(stack: Stack) -> Path:
    """supervisord's socket: in the stack's folder, or in the system's for temporary files where that is too deep."""
    path = stack.run / "supervisor.sock"
    if len(str(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(stack.folder.resolve())).hexdigest()[:16]  # of a folder that need not exist yet
    return Path(tempfile.gettempdir()) / f"fraud-detection-{os.getuid()}-{name}.sock"


def configuration(stack: Stack) -> str:
    """supervisord.conf. There is no secret in it: each component reads its own as it starts."""
    sections = [
        "[unix_http_server]",
        f"file={_escaped(socket_path(stack))}",
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        "",
        "[supervisord]",
        f"logfile={_escaped(stack.logs / 'supervisord.log')}",
        "logfile_maxbytes=1MB",
        "logfile_backups=1",
        f"pidfile={_escaped(_pid_file(stack))}",
        f"directory={_escaped(ROOT)}",
        "umask=077",
        *(["user=root"] if os.geteuid() == 0 else []),
        "",
    ]
    for component in COMPONENTS:
        sections += _program(stack, component)
    return "\n".join(sections)


def _program(stack: Stack, component: Component) -> list[str]:
    words = [sys.executable, "-m", "local_stack", "start-component", component.name, "--folder", str(stack.folder)]
    return [
        f"[program:{component.name}]",
        "command=" + " ".join(f'"{_escaped(word)}"' for word in words),
        "autostart=false",
        "autorestart=true",
        "startsecs=2",
        "startretries=3",
        f"stopsignal={component.stop_signal}",
        f"stopwaitsecs={component.stop_seconds}",
        f"stopasgroup={str(component.stop_group).lower()}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_escaped(log_file(stack, component.name))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=1",
        "",
    ]


def log_file(stack: Stack, name: str) -> Path:
    return stack.logs / f"{name}.log"


def _pid_file(stack: Stack) -> Path:
    return stack.run / "supervisord.pid"


def _escaped(text: object) -> str:
    return str(text).replace("%", "%%")


class Supervisor:
    """A running supervisord, asked through its socket."""

    def __init__(self, stack: Stack) -> None:
        self._address = f"unix://{socket_path(stack)}"

    @property
    def _server(self) -> Any:
        """A connection of its own for each call: one that failed cannot be used again."""
        return ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, self._address))

    def is_up(self) -> bool:
        try:
            self._server.supervisor.getState()
        except (OSError, Fault):
            return False
        return True

    def states(self) -> list[State]:
        """Every component in its order; all stopped if supervisord is not running."""
        try:
            found = {info["name"]: info for info in self._server.supervisor.getAllProcessInfo()}
        except (OSError, Fault):
            found = {}
        stopped = {"statename": "STOPPED", "pid": 0, "start": 0}
        return [
            State(name, info["statename"], info["pid"], float(info["start"]))
            for name in BY_NAME
            for info in [found.get(name, stopped)]
        ]

    def state(self, name: str) -> State:
        return next(state for state in self.states() if state.name == name)

    def start(self, name: str) -> None:
        """Let a component be started, if it is not running."""
        if self.state(name).status not in ("RUNNING", "STARTING"):
            self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """End a component, and return when it is gone."""
        if self.state(name).status in ("RUNNING", "STARTING", "BACKOFF", "STOPPING"):
            self._call("stopProcess", name, True)

    def shut_down(self) -> None:
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> None:
        try:
            getattr(self._server.supervisor, method)(*arguments)
        except Fault as error:
            if "NOT_RUNNING" not in error.faultString and "ALREADY_STARTED" not in error.faultString:
                raise StackError(f"supervisord: {method} {arguments}: {error.faultString}\nnext: make logs") from error
        except OSError as error:
            raise StackError(f"supervisord does not answer: {error}\nnext: make down, then make up") from error


def start_supervisord(stack: Stack) -> Supervisor:
    """Start supervisord where it is not running. Raises StackError with what it said."""
    supervisor = Supervisor(stack)
    if supervisor.is_up():
        return supervisor
    end_left_behind(stack)  # of a supervisord that was killed: its ports and locks would be in the way
    path = stack.run / "supervisord.conf"
    path.write_text(configuration(stack), encoding="utf-8")
    program = Path(sys.executable).parent / "supervisord"
    done = subprocess.run(
        [str(program), "-c", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=base_environment(stack),
    )
    if done.returncode != 0 or not _wait(supervisor.is_up, 15.0):
        raise StackError(f"supervisord did not start: {(done.stdout + done.stderr).strip()[-1000:]}\nnext: make doctor")
    return supervisor


def end_left_behind(stack: Stack, grace: float = 5.0) -> int:
    """Stop every process with this stack's mark; returns how many there were.

    Airflow's tasks and MLflow's children live in sessions of their own and may outlive what started them. They are
    found by the environment that they inherited, so no other process is stopped.
    """
    found = marked(stack)
    for process in found:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(found, timeout=grace)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace)
    return len(found)


def marked(stack: Stack) -> list[psutil.Process]:
    """The processes that the stack, or anything in it, has started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(stack.folder):
                found.append(process)
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """All that a process has started, also in sessions of their own."""
    return list(_tree(pid)[1:])


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL those that still run."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def memory(pids: Iterable[int]) -> dict[int, float]:
    """MiB of each process with its descendants; what several share is counted once, where the system tells (PSS)."""
    return {pid: sum(map(_own_memory, _tree(pid))) / _MIB for pid in pids}


def _tree(pid: int) -> Sequence[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _own_memory(process: psutil.Process) -> int:
    try:
        found = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(found, "pss", found.rss))


def supervisord_pid(stack: Stack) -> int | None:
    try:
        return int(_pid_file(stack).read_text())
    except (OSError, ValueError):
        return None


def _wait(condition: Any, deadline: float) -> bool:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def wait_gone(stack: Stack, deadline: float = 30.0) -> bool:
    """Whether supervisord ended in time. While it stops the components it answers no more, and its process is there."""
    pid = supervisord_pid(stack)
    return bool(_wait(lambda: not Supervisor(stack).is_up() and (pid is None or not psutil.pid_exists(pid)), deadline))
