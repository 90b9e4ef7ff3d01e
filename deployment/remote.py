"""Copy this repository, or `.env` and `variables.json`, to a machine in the cloud's network by ssh.

    python -m deployment.remote repo|env --host USER@HOST [--folder FOLDER]

Only files that git knows are copied as the repository: no data, no environments, no secrets. `.env` goes apart, and is
readable there by its owner alone.
"""

import argparse
import io
import shlex
import subprocess
import tarfile
from pathlib import Path

from deployment.errors import WRONG_ARGUMENTS, DeploymentError, log, run
from deployment.paths import ENV_FILE, ROOT, VARIABLES


def repository_files() -> list[Path]:
    """What git knows and what is not deleted here."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    except OSError as error:
        raise DeploymentError(f"git cannot be run: {error}") from error
    if done.returncode != 0:
        raise DeploymentError(f"{ROOT} is no git repository: {done.stderr.decode(errors='replace').strip()}")
    names = [name for name in done.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def settings_files() -> list[Path]:
    found = [path for path in (ENV_FILE, VARIABLES) if path.is_file()]
    if ENV_FILE not in found:
        raise DeploymentError(f"{ENV_FILE} does not exist; next: make env")
    return found


def send(files: list[Path], root: Path, host: str, folder: str, *, private: bool) -> None:
    """Unpack files in a folder of another machine; the content goes through ssh's standard input."""
    if not host or host.startswith("-"):
        raise DeploymentError(f"the host is {host!r}; expected HOST=user@address", WRONG_ARGUMENTS)
    path = shlex.quote(folder)
    mask = "umask 077 && " if private else ""
    unpack = f"{mask}mkdir -p {path} && tar -xzf - -C {path}"
    try:
        done = subprocess.run(["ssh", host, unpack], input=_packed(files, root, private=private), check=False)
    except OSError as error:
        raise DeploymentError(f"ssh cannot be run: {error}; install OpenSSH's client") from error
    if done.returncode != 0:
        raise DeploymentError(f"ssh {host} failed with exit code {done.returncode}; see its message above")
    log(f"{len(files)} files copied to {host}:{folder}")


def _packed(files: list[Path], root: Path, *, private: bool) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for path in files:
            entry = tar.gettarinfo(path, path.relative_to(root).as_posix())
            entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, "", ""
            entry.mode = 0o600 if private else entry.mode
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return content.getvalue()


def _main() -> None:
    parser = argparse.ArgumentParser(description="Copy to a machine in the cloud's network by ssh.")
    parser.add_argument("what", choices=("repo", "env"))
    parser.add_argument("--host", required=True, help="USER@HOST, as ssh takes it")
    parser.add_argument("--folder", default="fraud-detection", help="there, below the home folder")
    chosen = parser.parse_args()
    private = chosen.what == "env"
    files = settings_files() if private else repository_files()
    send(files, ROOT, chosen.host, chosen.folder, private=private)


if __name__ == "__main__":
    run(_main)
