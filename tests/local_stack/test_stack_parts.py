"""The stack's parts one by one: settings, ports, passwords, configuration, the doctor, the demo's transactions."""

import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from deployment.errors import DeploymentError
from deployment.http import HttpError
from deployment.settings import read_env
from local_stack import airflow, bucket, components, doctor, postgres, seeding, supervision, upkeep
from local_stack.cli import main
from local_stack.passwords import passwords
from local_stack.ports import complaint, is_free
from local_stack.settings import DEFAULTS, ROOT, Stack, StackError, load, saved
from local_stack.starting import _require_free_ports
from local_stack.supervision import configuration, socket_path


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A stack with its own folder, and ports that are unlikely to be in use."""
    env = tmp_path / ".env"
    env.write_text(f"STACK_FOLDER={tmp_path / 'stack'}\n")
    found = load(env)
    for folder in (found.run, found.logs, found.cloud, found.airflow_home, found.mlflow):
        folder.mkdir(parents=True)
    return found


def test_every_setting_is_in_the_example() -> None:
    """Fails when .env.example lacks a setting or shows another default than the real one."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name: value.strip('"') for name, value in given.items()} == DEFAULTS


def test_settings_of_others_in_env_are_left_alone(tmp_path: Path) -> None:
    """Fails when settings of the cloud deployment in the same .env stop the local stack."""
    env = tmp_path / ".env"
    env.write_text("YC_TOKEN=abc\nexport SCHEDULE='*/5 * * * *'  # often\nMLFLOW_PORT=6000\nAIRFLOW_PORT=\n")
    found = load(env)
    assert (found.schedule, found.ports["MLFLOW_PORT"], found.ports["AIRFLOW_PORT"]) == ("*/5 * * * *", 6000, 8080)


@pytest.mark.parametrize("line", ["SCHEDULE=*/10 * * * *", "SCHEDULE='*/10 * * * *'", 'export SCHEDULE="*/10 * * * *"'])
def test_a_schedule_needs_no_quotes_neither_for_the_stack_nor_for_the_cloud(tmp_path: Path, line: str) -> None:
    """Fails when a SCHEDULE in .env works for the stack but not for `make env`, or the other way round."""
    env = tmp_path / ".env"
    env.write_text(f"{line}  # often\n")
    assert load(env).schedule == read_env(env)["SCHEDULE"] == "*/10 * * * *"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AIRFLOW_PORT=http", "AIRFLOW_PORT is 'http'"),
        ("MLFLOW_PORT=8080", "AIRFLOW_PORT and MLFLOW_PORT are both 8080"),
        ("SCHEDULE=5 minutes", "expected a cron expression"),
        ("nonsense", "line 1: expected NAME=value"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, line: str, message: str) -> None:
    """Fails when a mistyped setting shows only as a component that does not start."""
    env = tmp_path / ".env"
    env.write_text(line + "\n")
    with pytest.raises(DeploymentError, match=message):
        load(env)


def test_a_line_that_cannot_be_read_is_not_repeated(tmp_path: Path) -> None:
    """Fails when the message about a malformed line of .env repeats the secret in that line."""
    env = tmp_path / ".env"
    for line in ("AWS_SECRET_ACCESS_KEY: topsecret", "AIRFLOW__SMTP__SMTP_PASSWORD='topsecret"):
        env.write_text(line + "\n")
        with pytest.raises(DeploymentError, match="line 1") as raised:
            load(env)
        assert "topsecret" not in str(raised.value)


def test_what_somebody_has_added_to_the_variable_is_not_lost_when_airflow_fails(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an Airflow that cannot answer makes the stack overwrite a variable that somebody has edited."""
    asked = []

    def call(method: str, url: str, *_: object) -> dict[str, str]:
        asked.append(method)
        if url.endswith("/auth/token"):
            return {"access_token": "token"}
        raise HttpError("restarting", 503)

    monkeypatch.setattr("deployment.airflow.call", call)
    with pytest.raises(HttpError):
        airflow.merge_variable(airflow.connect(stack, passwords(stack.passwords)), "fraud_detection", {"zone": "a"})
    assert asked == ["POST", "GET"]


def test_a_component_that_is_started_again_gets_the_settings_of_its_siblings(stack: Stack) -> None:
    """Fails when an edited .env makes a restarted component use other ports than the rest of the stack."""
    stack.save()
    assert saved(stack.folder) == stack


def test_a_stack_of_another_release_can_be_ended(stack: Stack) -> None:
    """Fails when `make down` cannot stop a stack that another release started."""
    stack.save()
    path = stack.run / "settings.json"
    values = json.loads(path.read_text())
    del values["airflow_options"]
    path.write_text(json.dumps({**values, "of_a_later_release": 1}))
    assert saved(stack.folder) == stack


def test_a_taken_port_is_named_with_its_variable_and_owner(stack: Stack) -> None:
    """Fails when the message about a taken port does not name the setting to change and the process that has it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        busy = replace(stack, ports={**stack.ports, "MLFLOW_PORT": port})
        with pytest.raises(StackError, match=rf"port {port} \(MLflow\) is taken") as raised:
            _require_free_ports(busy, running=set())
        assert f"process {os.getpid()}" in str(raised.value)
        assert "set MLFLOW_PORT in .env" in str(raised.value)
    assert is_free(port)


def test_a_port_that_only_listens_elsewhere_is_free() -> None:
    """Fails when a port that is free on this address is reported as taken."""
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        assert is_free(other.getsockname()[1])
    assert "set X in .env" in complaint("X", "a service", 1)


def test_passwords_are_private_and_stay(stack: Stack) -> None:
    """Fails when other users of the machine can read the passwords, or a second start changes them."""
    first = passwords(stack.passwords)
    assert stat.S_IMODE(stack.passwords.stat().st_mode) == 0o600
    assert passwords(stack.passwords) == first
    assert len(set(first.values())) == len(first)
    assert min(map(len, first.values())) >= 32


def test_passwords_of_an_earlier_release_stay(stack: Stack) -> None:
    """Fails when an update replaces passwords that the databases already use."""
    stack.passwords.write_text(json.dumps({"postgres": "known"}))
    found = passwords(stack.passwords)
    assert found["postgres"] == "known"
    assert found["airflow_admin"]


@pytest.mark.parametrize("name", components.BY_NAME)
def test_no_secret_is_in_arguments(stack: Stack, name: str) -> None:
    """Fails when a password is in the arguments of a process, which every user of the machine can see."""
    launch = components.BY_NAME[name].launch(stack)
    words = " ".join(launch.command)
    assert not [key for key, value in passwords(stack.passwords).items() if value in words]


def test_the_callers_environment_stays_outside(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when AIRFLOW__… or AWS_… variables of the user's shell change the stack or leak into it."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("PGPASSWORD", "mine")
    environment = components.BY_NAME["scheduler"].launch(stack).environment
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "mine" not in environment.values()


def test_files_with_secrets_are_private(stack: Stack) -> None:
    """Fails when a file with a password can be read by other users of the machine, or is an unexpected one."""
    for component in components.COMPONENTS:
        component.launch(stack)
    secret = passwords(stack.passwords).values()
    holders = [
        path for path in stack.folder.rglob("*") if path.is_file() and any(s in path.read_text() for s in secret)
    ]
    assert {path.name for path in holders} == {"passwords.json", "basic_auth.ini", "users.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_supervisor_starts_every_component_and_sees_no_secret(stack: Stack) -> None:
    """Fails when a component of the stack is never started, or supervisord's configuration holds a password."""
    text = configuration(stack)
    assert [part.split("]")[0] for part in text.split("[program:")[1:]] == list(components.BY_NAME)
    assert not [key for key, value in passwords(stack.passwords).items() if value in text]


SHELL = """trap 'echo end > {folder}/asked; {answer}' {signal}
sh -c "trap 'echo end >> {folder}/asked-child' {signal}; echo up > {folder}/child; while :; do sleep 0.1; done" &
echo $! > {folder}/pid
while :; do sleep 0.1; done
"""
"""A component that has a child process, and notes who of the two is asked to end."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "answer"), [("mlflow", ":"), ("postgres", "kill -9 $(cat {folder}/pid); exit")])
def test_no_process_of_a_stopped_component_is_left(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, name: str, answer: str
) -> None:
    """Fails when `make down` leaves a child on its port, or PostgreSQL's children end before it can write its data."""
    folder, component = stack.folder, replace(components.BY_NAME[name], stop_seconds=2)
    script = folder / "component.sh"
    script.write_text(SHELL.format(folder=folder, signal=component.stop_signal, answer=answer.format(folder=folder)))
    monkeypatch.setattr(supervision, "COMPONENTS", (component,))
    text = re.sub(r"(?m)^command=.*", f"command=/bin/sh {script}", supervision.configuration(stack))
    monkeypatch.setattr(supervision, "configuration", lambda _: text)
    server = supervision.start_supervisord(stack)
    try:
        server.start(name)
        wait_until(lambda: (folder / "child").exists() and server.state(name).is_running)
        child = psutil.Process(int((folder / "pid").read_text()))
        server.stop(name)
        wait_until(lambda: not child.is_running())
    finally:
        server.shut_down()
        assert supervision.wait_gone(stack)
    assert (folder / "asked").exists()
    assert (folder / "asked-child").exists() is (name != "postgres"), "PostgreSQL ends its own, in order"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_folder_with_a_percent_sign_or_a_long_path_works(stack: Stack, tmp_path: Path) -> None:
    """Fails when a clone in a folder with % or a long path cannot start the stack."""
    deep = tmp_path / "100%" / ("long" * 30)
    deep.mkdir(parents=True)
    moved = replace(stack, folder=deep)
    assert "100%%" in configuration(moved)
    assert len(str(socket_path(moved))) < 100


def test_postgres_runs_as_another_user_where_this_is_root(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when root cannot start the stack, because PostgreSQL refuses to run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    server = postgres.server(stack)
    assert server.account == pwd.getpwnam("nobody")
    assert server.become is not None
    with pytest.raises(StackError, match="POSTGRES_OS_USER"):
        postgres.server(replace(stack, postgres_os_user="no-such-account"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert postgres.server(stack).account is None


def test_postgres_leaves_a_folder_that_its_user_cannot_enter(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a clone in /root stops PostgreSQL, whose user cannot enter that folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "can_enter", lambda path, _: not path.is_relative_to(tmp_path))
    server = postgres.server(stack)
    assert server.data.is_relative_to("/var/lib")
    assert server.programs.is_relative_to("/var/lib")
    assert postgres.server(stack) == server  # as found again by the next command


def test_a_stack_made_anew_does_not_find_the_database_of_the_one_before(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the folder of a removed stack leaves its inode, and so its database, to the next one, whose passwords
    that database refuses."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "can_enter", lambda path, _: not path.is_relative_to(tmp_path))
    same = SimpleNamespace(st_ino=1, st_mode=stat.S_IFDIR | 0o755)
    of = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **options: same if path == stack.folder else of(path, **options))
    stack.folder.mkdir(exist_ok=True)
    before = postgres.server(stack).data
    shutil.rmtree(stack.folder)
    stack.folder.mkdir()
    assert postgres.server(stack).data != before


@pytest.mark.parametrize(
    ("mode", "owner", "group", "enters"),
    [
        (0o700, 1, 1, False),
        (0o701, 1, 1, True),
        (0o100, 2, 1, True),
        (0o011, 2, 1, False),
        (0o010, 1, 2, True),
        (0o701, 1, 2, False),
    ],
)
def test_who_can_enter_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, enters: bool
) -> None:
    """Fails when PostgreSQL's files are put where its user cannot read them, and `make up` fails."""
    account = pwd.struct_passwd(("database", "x", 2, 2, "", "/", "/bin/sh"))
    closed = tmp_path / "closed"
    seen = {closed: SimpleNamespace(st_mode=stat.S_IFDIR | mode, st_uid=owner, st_gid=group)}
    above = SimpleNamespace(st_mode=stat.S_IFDIR | 0o755, st_uid=0, st_gid=0)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(Path, "stat", lambda path, **_: seen.get(path, above))
    assert postgres.can_enter(closed / "inside", account) is enters


def test_the_doctor_says_how_to_mend_each(stack: Stack) -> None:
    """Fails when the doctor does not say how to fix a missing prerequisite, or complains about the stack's ports."""
    assert doctor.python((3, 11)).fix == ""
    assert "python3.11-venv" in doctor.python((3, 9)).fix
    assert "STACK_FOLDER" in doctor.disk(1.0, stack).fix
    assert doctor.disk(100.0, stack).fix == ""
    assert "4 GiB" in doctor.memory(1.0).fix
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = replace(stack, ports={**stack.ports, "AIRFLOW_PORT": taken.getsockname()[1]})
        fixes = [finding.fix for finding in doctor.findings(busy)]
        assert any("set AIRFLOW_PORT in .env" in fix for fix in fixes)
        own = doctor.findings(busy, running=frozenset(busy.ports))
        assert not any("AIRFLOW_PORT" in finding.fix for finding in own)


def test_the_doctor_needs_nothing_installed() -> None:
    """Fails when the doctor needs an installed package on a machine that has only Python."""
    import subprocess
    import sys

    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); import local_stack.doctor",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_demo_data_reach_the_clock_and_are_written_once(tmp_path: Path) -> None:
    """Fails when a second `make up` writes demo transactions twice, or leaves a gap for the hours that it was down."""
    now = datetime(2026, 4, 2, 5, 30, tzinfo=UTC)
    assert seeding.seed(tmp_path, now) == seeding.HISTORY_DAYS + 5
    files = sorted(seeding.data_folder(tmp_path).rglob("*.parquet"))
    assert seeding.seed(tmp_path, now) == 0
    later = now + timedelta(hours=20)  # the stack was down over midnight
    assert seeding.feed(tmp_path, later) == 20
    all_files = sorted(seeding.data_folder(tmp_path).rglob("*.parquet"))
    assert set(files) < set(all_files)
    ids = [i for path in all_files for i in pq.read_table(path, columns=["transaction_id"])[0].to_pylist()]
    assert len(ids) == len(set(ids))
    newest = max(pq.read_table(path)["transaction_time"].to_pylist()[-1] for path in all_files[-2:])
    assert later - timedelta(hours=1) < newest < later


def test_uploading_again_changes_nothing(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when unchanged files are uploaded again and Airflow parses them anew, or a needed file is not uploaded."""
    (tmp_path / "venv.tar.gz").write_bytes(b"made by make up before it uploads")
    monkeypatch.setattr(bucket, "ARCHIVE", tmp_path / "venv.tar.gz")
    assert bucket.upload(stack) >= 6
    assert bucket.upload(stack) == 0
    names = {path.relative_to(stack.bucket).as_posix() for path in stack.bucket.rglob("*") if path.is_file()}
    current = json.loads((stack.bucket / "code" / "current.json").read_text())
    code = ("fraud_detection_model.py", "fraud_detection.zip", "retraining.yaml")
    assert {f"code/{current['folder']}/{name}" for name in code} <= names
    assert {f"code/{current['venv']}", "code/shutdown_host.sh", "dags/fraud_detection_training.py"} <= names
    assert "dags/fraud_detection_common/operators.py" in names


def test_dag_files_of_an_earlier_release_are_deleted(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a stack that is brought to a new release goes on loading DAG files that the release no longer has."""
    (tmp_path / "venv.tar.gz").write_bytes(b"made by make up before it uploads")
    monkeypatch.setattr(bucket, "ARCHIVE", tmp_path / "venv.tar.gz")
    dags = stack.bucket / "dags"
    old = [dags / "fraud_detection_cloud.py", dags / "fraud_detection_common" / "gone.py"]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise AssertionError\n")
    bucket.upload(stack)
    assert not any(path.exists() for path in old)
    assert (dags / "fraud_detection_training.py").is_file()


@pytest.mark.parametrize("folder", ["stack", "long" * 30])
def test_status_and_down_of_a_stack_that_was_never_up(tmp_path: Path, folder: str) -> None:
    """Fails when `make status` or `make down` fails before the first `make up`, also in a folder with a long path."""
    env = tmp_path / ".env"
    env.write_text(f"STACK_FOLDER={tmp_path / folder}\n")
    status = CliRunner().invoke(main, ["status", "--env", str(env)])
    assert status.exit_code == 0, status.output
    assert status.stdout.count("stopped") == len(components.COMPONENTS)
    down = CliRunner().invoke(main, ["down", "--env", str(env)])
    assert down.exit_code == 0, down.output


@pytest.mark.parametrize("kept", ["http_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"])
def test_components_keep_a_proxy_and_reach_this_machine_without_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Fails when Airflow's tasks ask a company's proxy for the emulator, or cannot reach the webhook behind it."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(kept, "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "corp.example")
    found = components.base_environment(stack)
    assert found[kept] == "http://proxy.example:3128"
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        assert found[name].startswith("corp.example,localhost,127.0.0.1")


def test_what_is_older_than_keep_days_goes_and_nothing_else(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when logs stay for ever, or decisions, reports or the log of a running run are deleted."""
    now = datetime.now(UTC)
    old, young = (now - timedelta(days=stack.keep_days, hours=hours) for hours in (1, -1))
    logs, output = stack.logs / "airflow", stack.bucket / "output_data"
    gone = [
        logs / "dag_id=a" / "run_id=old" / "task_id=t" / "attempt=1.log",
        logs / "dag_processor" / "old" / "dags.log",
    ]
    gone += [output / "outcomes" / "old.json"]
    stay = [logs / "dag_id=a" / "run_id=long" / "task_id=t" / f"attempt={number}.log" for number in (1, 2)]
    stay += [logs / "dag_processor" / "young" / "dags.log", output / "outcomes" / "young.json"]
    stay += [output / "decisions" / "old.json", output / "reports" / "old.html", stack.cloud / "jobs" / "old" / "a.log"]
    for path in gone + stay:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for path in [*gone, *stay, *logs.rglob("*"), logs]:
        moment = young if path in stay and "old" not in path.name and path.name != "attempt=1.log" else old
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    asked = stack.folder / "asked"
    program = stack.folder / "airflow-program"
    program.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    program.chmod(0o755)
    monkeypatch.setattr(airflow, "program", lambda: str(program))
    assert "3 logs and outcomes" in upkeep.tidy(stack, now)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stay if not path.exists()] == []
    assert asked.read_text().startswith(f"db clean --clean-before-timestamp {now - timedelta(days=14):%Y-%m-%d}")
    assert components._emulator(stack).command[-1].endswith("emulator.json")
    assert json.loads((stack.run / "emulator.json").read_text())["retention"] == {"days": stack.keep_days}


def test_the_stack_s_accounts_have_the_roles_of_the_cloud_and_no_more() -> None:
    """Fails when a run works on one machine because its accounts may do more than in the cloud."""
    granted = {(grant["account"], grant["role"]) for grant in components.GRANTS}
    table = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \| `([\w.-]+)` \|", table, flags=re.MULTILINE))
    assert granted <= documented


def test_a_failed_clean_up_is_reported(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when Airflow's tables grow while the log says that old rows were deleted."""
    monkeypatch.setattr(airflow, "program", lambda: "/bin/false")
    with pytest.raises(StackError, match="airflow db clean failed"):
        upkeep.tidy(stack, datetime.now(UTC))


@pytest.mark.slow
def test_airflow_cleans_its_own_tables_as_it_is_asked(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when `airflow db clean` of the locked Airflow lacks an option or a table that the clean-up names."""
    if not (ROOT / ".venv-airflow" / ".synced").exists():
        pytest.skip(".venv-airflow is not installed; run: make setup-airflow")
    database = f"sqlite:///{stack.airflow_home}/airflow.db"
    monkeypatch.setattr(postgres, "url", lambda *_: database)
    environment = components.base_environment(stack) | airflow.environment(stack, passwords(stack.passwords))
    subprocess.run([airflow.program(), "db", "migrate"], env=environment, check=True, capture_output=True)
    old, recent = "2001-01-01 00:00:00", datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    with closing(sqlite3.connect(stack.airflow_home / "airflow.db")) as rows:
        rows.executemany("INSERT INTO log (dttm, event) VALUES (?, 'test')", [(old,), (recent,)])
        rows.commit()
        upkeep.tidy(stack, datetime.now(UTC))
        kept = rows.execute("SELECT dttm FROM log WHERE event = 'test'").fetchall()
    assert [moment[:10] for (moment,) in kept] == [recent[:10]]


def test_the_stack_grants_what_the_cloud_grants() -> None:
    """Fails when a run is denied here what infra/ grants, or the stack hides that a grant is missing there."""
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(
        r"^\| `(airflow|dataproc)` \| `([\w.-]+)` \| (?:the folder|account|secret)", page, flags=re.MULTILINE
    )
    assert {(grant["account"], grant["role"]) for grant in components.GRANTS} == set(rows)
