"""The contents of the cloud's buckets, and their upload by s3cmd, which sends only what is new or different.

CODE_BUCKET    dags/*.py  fraud_detection_common/*.py  .airflowignore
               code/REVISION/fraud_detection_model.py  fraud_detection.zip  retraining.yaml
               code/venvs/DIGEST.tar.gz
               code/current.json           which revision and which archive a run takes; written last
               code/shutdown_host.sh
INPUT_BUCKET   input_data/
OUTPUT_BUCKET  output_data/

python -m deployment.bucket upload venv|src|dags|data
python -m deployment.bucket download-output
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from deployment.errors import FAILED, UNREACHABLE, DeploymentError, log, run
from deployment.http import require_address
from deployment.identity import StorageKey, inherited, storage_key
from deployment.paths import ARCHIVE, ENV_FILE, ROOT, given_path, shown, write_atomic
from deployment.revision import checkout_revision
from deployment.settings import load, needed

CODE, DAGS, INPUT, OUTPUT = "code", "dags", "input_data", "output_data"
SHUTDOWN = "shutdown_host.sh"
REVISION_FILE = "REVISION"
CURRENT = "current.json"
STORAGE = "https://storage.yandexcloud.net"
SETTINGS = ROOT / "conf" / "retraining.yaml"
_S3CMD = Path(sys.executable).with_name("s3cmd")
_NO_DATA = r"(^|/)\.[^/]+$|\.part$"  # hidden files, and those that are still being written
_EPOCH = (1980, 1, 1, 0, 0, 0)
# s3cmd's exit codes that another try may survive: 5xx answers, a slow-down, a refused or lost connection.
_TEMPORARY = frozenset({11, 15, 74, 75, 111})
_REASONS = {12: "the bucket or the object does not exist", 77: "access is denied", 2: "a part of the files failed"}


def code_files(settings_file: Path = SETTINGS) -> Iterator[tuple[str, bytes]]:
    """The job's files in the folder of its revision."""
    yield "fraud_detection_model.py", (ROOT / "src" / "fraud_detection_model.py").read_bytes()
    yield "fraud_detection.zip", library(ROOT / "src")
    yield "retraining.yaml", settings_file.read_bytes()


def code_folder(files: Mapping[str, bytes], revision: str) -> str:
    """The name of their folder in code/: no two sets of files share one, whatever the commit says."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"{revision[:12].replace('+', '-')}-{digest.hexdigest()[:12]}"


def archive_name(archive: Path) -> str:
    """The name of an environment archive in code/."""
    with archive.open("rb") as file:
        return f"venvs/{hashlib.file_digest(file, 'sha256').hexdigest()[:24]}.tar.gz"


def current(folder: str, archive: str, revision: str) -> bytes:
    """The content of code/current.json: what a run that starts now takes (`dags/fraud_detection_common/code.py`)."""
    return json.dumps({"revision": revision, "folder": folder, "venv": archive}, indent=2).encode()


def shutdown_file() -> bytes:
    """The script by which hosts shut themselves down. Its address is a setting of clusters, so it has no revision."""
    return (ROOT / "deployment" / SHUTDOWN).read_bytes()


def dag_files() -> Iterator[tuple[str, bytes]]:
    """The files of the folder dags/ by their paths in it: DAGs, the package that they share, and `.airflowignore`."""
    folder = ROOT / "dags"
    for path in sorted([*folder.rglob("*.py"), folder / ".airflowignore"]):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def library(source: Path) -> bytes:
    """The library as Spark takes it: a zip file, byte for byte the same for the same commit on every system."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # packed, it would depend on the system's zlib
        for path in sorted(
            (source / "fraud_detection").rglob("*"), key=lambda path: path.relative_to(source).as_posix()
        ):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), _EPOCH)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
        revision = zipfile.ZipInfo(f"fraud_detection/{REVISION_FILE}", _EPOCH)
        revision.external_attr = 0o644 << 16
        archive.writestr(revision, checkout_revision(source.parent).encode())
    return content.getvalue()


class S3cmd:
    """The object storage, as s3cmd sees it."""

    def __init__(self, endpoint: str, key: StorageKey) -> None:
        require_address(endpoint, "S3_ENDPOINT")
        self._endpoint = urlsplit(endpoint)
        self._key = key

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "S3cmd":
        return cls(settings.get("S3_ENDPOINT") or STORAGE, storage_key(settings))

    def sync(self, source: str, target: str, *options: str) -> None:
        """Copy what is new or different. Raises DeploymentError where anything at all was not copied."""
        log(f"{_short(source)} → {_short(target)}")
        code = self._run("sync", "--stats", *options, source, target).returncode
        if code != 0:
            reason = _REASONS.get(code, "see its message above")
            raise DeploymentError(
                f"s3cmd could not copy {source} to {target} (its exit code {code}: {reason}); "
                "next: the same command again, it continues where it stopped",
                UNREACHABLE if code in _TEMPORARY else FAILED,
            )

    def names(self, place: str) -> list[str]:
        """The objects and folders at s3://BUCKET/PREFIX. Raises DeploymentError where it cannot be read."""
        done = self._run("ls", place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode != 0:
            reason = _REASONS.get(done.returncode, "no answer")
            raise DeploymentError(
                f"s3cmd cannot list it (its exit code {done.returncode}: {reason})",
                UNREACHABLE if done.returncode in _TEMPORARY else FAILED,
            )
        return [line.split()[-1] for line in str(done.stdout).splitlines()]

    def _run(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[Any]":
        if not _S3CMD.exists():
            raise DeploymentError(
                f"s3cmd is not installed; found: no {_S3CMD}; next: rm -f .venv-cloud/.synced && make cloud-tools"
            )
        with TemporaryDirectory(prefix="s3cmd-") as folder:
            config = Path(folder) / "s3cfg"
            write_atomic(config, self._config().encode(), mode=0o600)
            command = [sys.executable, str(_S3CMD), "--config", str(config), *words]
            environment = {**inherited(), **self._key.environment}
            return subprocess.run(command, env=environment, check=False, **options)

    def _config(self) -> str:
        """Where the storage is. The key is not in it: s3cmd takes that from its environment."""
        host = self._endpoint.netloc
        return "\n".join(
            [
                "[default]",
                f"host_base = {host}",
                f"host_bucket = {host}",  # without %(bucket)s: addresses are https://host/bucket/object
                f"use_https = {self._endpoint.scheme == 'https'}",
                "bucket_location = ru-central1",
                "guess_mime_type = False",
                "follow_symlinks = False",
                "",
            ]
        )


def _short(place: str) -> str:
    return place if place.startswith("s3://") else shown(Path(place))


def upload(what: str, settings: Mapping[str, str], data: Path) -> None:
    """Bring one part of the buckets up to date."""
    if what == "data":
        _upload_data(settings, data)
        return
    bucket = f"s3://{needed(settings, 'CODE_BUCKET')}"
    if what == "venv":
        _upload_archive(S3cmd.of(settings), f"{bucket}/{CODE}")
    elif what == "src":
        _upload_code(S3cmd.of(settings), f"{bucket}/{CODE}")
    else:
        # A DAG that was deleted here must not keep running there.
        _upload_files(S3cmd.of(settings), dag_files(), f"{bucket}/{DAGS}/", "--delete-removed")


def _upload_archive(storage: S3cmd, code: str) -> str:
    if not ARCHIVE.exists():
        raise DeploymentError(f"{ARCHIVE} does not exist; next: make create-venv-archive")
    name = archive_name(ARCHIVE)
    with TemporaryDirectory(prefix=".upload-", dir=ARCHIVE.parent) as folder:
        link = Path(folder) / Path(name).name
        os.link(ARCHIVE, link)
        storage.sync(str(link), f"{code}/venvs/")
    return name


def _upload_code(storage: S3cmd, code: str) -> None:
    """Upload a revision beside the others, then let new runs take it: a run never mixes two."""
    files, revision = dict(code_files()), checkout_revision(ROOT)
    folder = code_folder(files, revision)
    archive = _upload_archive(storage, code)
    _upload_files(storage, iter(files.items()), f"{code}/{folder}/")
    _upload_files(storage, iter([(SHUTDOWN, shutdown_file())]), f"{code}/")
    _upload_files(storage, iter([(CURRENT, current(folder, archive, revision))]), f"{code}/")
    log(f"runs that start from now on take the code of revision {revision}")


def _upload_files(storage: S3cmd, files: Iterator[tuple[str, bytes]], target: str, *options: str) -> None:
    with TemporaryDirectory(prefix="upload-") as name:
        folder = Path(name) / target.rstrip("/").rpartition("/")[2]
        for file_name, content in files:
            write_atomic(folder / file_name, content)
        if not folder.exists():
            raise DeploymentError(f"nothing to upload to {target}; is this the whole repository?")
        storage.sync(f"{folder}/", target, *options)


def _upload_data(settings: Mapping[str, str], data: Path) -> None:
    bucket = needed(settings, "INPUT_BUCKET")
    if not any(path.is_file() for path in data.rglob("*")):
        raise DeploymentError(f"{data} holds no transactions; put yours there, or simulate some: make create-data")
    # Nothing is ever deleted there: the bucket may hold a longer history than this machine.
    S3cmd.of(settings).sync(f"{data}/", f"s3://{bucket}/{INPUT}/", "--rexclude", _NO_DATA)


def download_output(settings: Mapping[str, str], folder: Path) -> None:
    """Fetch decisions, reports and scores that are not here yet."""
    folder.mkdir(parents=True, exist_ok=True)
    S3cmd.of(settings).sync(f"s3://{needed(settings, 'OUTPUT_BUCKET')}/{OUTPUT}/", f"{folder}/")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Copy to the cloud's buckets, and from them.")
    parser.add_argument("--env", type=given_path, default=ENV_FILE, help="file with the settings (make env writes it)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("upload")
    up.add_argument("what", nargs="+", choices=("venv", "src", "dags", "data"))
    up.add_argument("--data", type=given_path, default=ROOT / "data" / "input_data")
    down = verbs.add_parser("download-output")
    down.add_argument("--folder", type=given_path, default=ROOT / "data" / "output_data" / "cloud")
    chosen = parser.parse_args()
    settings = load(chosen.env)
    if chosen.verb == "download-output":
        download_output(settings, chosen.folder)
        return
    for what in chosen.what:
        upload(what, settings, chosen.data)


if __name__ == "__main__":
    run(_main)
