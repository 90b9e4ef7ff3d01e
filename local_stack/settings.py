"""What `.env` says about the stack, and where everything of it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from deployment.errors import DeploymentError
from deployment.settings import read_env

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "fraud-detection"
MODEL = "fraud_detection"
TRAINING_DAG = "fraud_detection_training"
REAPER_DAG = "fraud_detection_cluster_reaper"

PORTS: dict[str, str] = {
    "AIRFLOW_PORT": "Airflow",
    "MLFLOW_PORT": "MLflow",
    "EMULATOR_PORT": "the emulated cloud",
    "POSTGRES_PORT": "PostgreSQL",
    "SERVING_PORT": "the server of scores",
}

DEFAULTS: dict[str, str] = {
    "SCHEDULE": "0 * * * *",
    "STACK_FOLDER": "data/stack",
    "AIRFLOW_PORT": "8080",
    "MLFLOW_PORT": "5050",
    "EMULATOR_PORT": "8443",
    "POSTGRES_PORT": "15432",
    "SERVING_PORT": "8000",
    "POSTGRES_OS_USER": "nobody",
    "JOB_MEMORY": "1500m",
    "TRANSACTIONS_PER_DAY": "7200",
    "TRAINING_SETTINGS": "conf/local_stack.yaml",
    "KEEP_DAYS": "14",
}
AIRFLOW_PREFIX = "AIRFLOW__"  # names that begin so are Airflow's own options, and are handed to it as they are


class StackError(DeploymentError):
    """The stack cannot do what was asked; the message says why, and gives the next command."""


@dataclass(frozen=True)
class Stack:
    """The settings, and the paths in the stack's folder."""

    schedule: str
    folder: Path
    ports: dict[str, int]
    postgres_os_user: str
    job_memory: str
    # A stack that an earlier release started has saved none of what came later; it must be possible to end it.
    transactions_per_day: int = int(DEFAULTS["TRANSACTIONS_PER_DAY"])
    training_settings: str = DEFAULTS["TRAINING_SETTINGS"]
    keep_days: int = int(DEFAULTS["KEEP_DAYS"])
    airflow_options: dict[str, str] = field(default_factory=dict)

    @property
    def passwords(self) -> Path:
        """Every generated password, in one file."""
        return self.folder / "passwords.json"

    @property
    def cloud(self) -> Path:
        """The emulator's state folder."""
        return self.folder / "cloud"

    @property
    def buckets(self) -> Path:
        return self.cloud / "buckets"

    @property
    def bucket(self) -> Path:
        return self.buckets / BUCKET

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        """Files of the running stack: pid files, rendered configuration."""
        return self.folder / "run"

    @property
    def airflow_home(self) -> Path:
        return self.folder / "airflow"

    @property
    def mlflow(self) -> Path:
        return self.folder / "mlflow"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['AIRFLOW_PORT']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}"

    @property
    def serving_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['SERVING_PORT']}"

    def save(self) -> None:
        """Keep the settings with the stack: a component that is started again gets those of its siblings."""
        values = {**vars(self), "folder": str(self.folder)}
        self.run.mkdir(parents=True, exist_ok=True)
        (self.run / "settings.json").write_text(json.dumps(values, indent=2), encoding="utf-8")

    def shown(self, path: Path) -> str:
        """A path as people see it: relative to the repository where it is inside."""
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def load(env_file: Path) -> Stack:
    """The settings of a `.env` file, or the defaults where there is none; names of others in it are left alone.

    Raises:
        StackError: a line or a value makes no sense.
    """
    values = {**DEFAULTS, **_read(env_file)}
    ports = {name: _port(name, values[name], env_file) for name in PORTS}
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port in taken:
            raise StackError(f"{env_file}: {taken[port]} and {name} are both {port}; give each its own")
        taken[port] = name
    schedule = values["SCHEDULE"].strip()
    if len(schedule.split()) != 5 and not schedule.startswith("@"):
        raise StackError(f"{env_file}: SCHEDULE is {schedule!r}; expected a cron expression such as '*/10 * * * *'")
    folder = Path(values["STACK_FOLDER"]).expanduser()
    return Stack(
        schedule=schedule,
        folder=folder if folder.is_absolute() else ROOT / folder,
        ports=ports,
        postgres_os_user=values["POSTGRES_OS_USER"],
        job_memory=values["JOB_MEMORY"],
        transactions_per_day=_count("TRANSACTIONS_PER_DAY", values["TRANSACTIONS_PER_DAY"], env_file),
        training_settings=str(_file("TRAINING_SETTINGS", values["TRAINING_SETTINGS"], env_file)),
        keep_days=_count("KEEP_DAYS", values["KEEP_DAYS"], env_file),
        airflow_options={name: value for name, value in values.items() if name.startswith(AIRFLOW_PREFIX)},
    )


def saved(folder: Path) -> Stack | None:
    """The settings with which the stack in this folder was started last."""
    path = folder / "run" / "settings.json"
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    known = {entry.name: values[entry.name] for entry in fields(Stack) if entry.name in values}
    ports = {name: int(DEFAULTS[name]) for name in PORTS} | values["ports"]  # an earlier release had fewer
    return Stack(**{**known, "folder": Path(values["folder"]), "ports": ports})


def _read(env_file: Path) -> dict[str, str]:
    """The stack's own names of the file, read as all commands read it; an empty value leaves the default."""
    return {
        name: text
        for name, text in read_env(env_file).items()
        if text and (name in DEFAULTS or name.startswith(AIRFLOW_PREFIX))
    }


def _port(name: str, text: str, env_file: Path) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise StackError(f"{env_file}: {name} is {text!r}; expected a port between 1 and 65535")
    return int(text)


def _count(name: str, text: str, env_file: Path) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise StackError(f"{env_file}: {name} is {text!r}; expected a number of at least 1")
    return int(text)


def _file(name: str, text: str, env_file: Path) -> Path:
    """A path below the repository, as the file says it."""
    if not (ROOT / text).is_file():
        raise StackError(f"{env_file}: {name} is {text!r}, and {ROOT / text} is not a file")
    return Path(text)
