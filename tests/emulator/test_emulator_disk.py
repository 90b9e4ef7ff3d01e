"""What the disk refuses fails one job, and never the emulator."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes.emulated_cloud import BUCKET, QUICK, Api, emulated, settings
from yandex.cloud.operation.operation_pb2 import Operation

from emulator import folder, server
from emulator.client import Emulator, wait_for
from emulator.settings import Settings


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An emulator whose jobs wait half a second before they start."""
    with emulated(tmp_path / "state", timing={**QUICK, "job_provisioning": 0.5}) as it:
        yield it


def _next_job_runs(api: Api, cluster_id: str) -> None:
    _, operation = api.create_job(cluster_id, "next")
    assert not api.done(operation).HasField("error")


def _ended(api: Api, job_id: str, operation: Operation) -> tuple[str, str]:
    """The job's status and its operation's message."""
    message = api.done(operation).error.message
    return next(str(job["status"]) for job in api.emulator.jobs() if job["id"] == job_id), message


def test_a_job_whose_folder_cannot_be_written_fails_alone(api: Api) -> None:
    """Fails when one unwritable file in the state folder ends the emulator, or leaves the job running for ever."""
    cluster = api.create_cluster("disk")
    job_id, operation = api.create_job(cluster.id)
    (api.emulator.state / "jobs" / job_id).write_text("in the way")
    status, message = _ended(api, job_id, operation)
    assert status == "ERROR"
    assert "the emulator could not run it" in message
    assert job_id in message, "which file it was"
    _next_job_runs(api, cluster.id)


def test_a_jobs_end_is_recorded_before_its_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a run waits for a job that has ended while the emulator removes gigabytes of its staged files."""
    state, chosen, statuses = tmp_path / "state", Settings.model_validate(settings(port=0)), []
    remove = shutil.rmtree

    def removing(path: Path, **options: Any) -> None:
        if path.exists():
            statuses.append(Emulator(state).jobs()[0]["status"])
        remove(path, **options)

    with folder.locked(state), ExitStack() as stack:  # in this process, where the removal can be watched
        folder.prepare(state, chosen)
        server._start(state, chosen, stack)
        api = Api(Emulator(state))
        cluster = api.create_cluster("disk")
        monkeypatch.setattr(shutil, "rmtree", removing)
        api.create_job(cluster.id)
        assert wait_for(lambda: bool(statuses))
        monkeypatch.undo()
    assert statuses == ["DONE"]


def test_a_log_that_cannot_be_copied_stays_where_it_is(api: Api) -> None:
    """Fails when a full disk while a log is copied ends the emulator, or loses the log of a job that succeeded."""
    cluster = api.create_cluster("disk")
    bucket = Path(api.cloud["buckets"]) / BUCKET
    (bucket / "dataproc").write_text("in the way")
    job_id, operation = api.create_job(cluster.id)
    status, _ = _ended(api, job_id, operation)
    assert status == "DONE"
    assert "cannot be copied to the bucket" in str(api.emulator.events("note", job_id=job_id))
    assert (api.emulator.state / "jobs" / job_id / "driver.log").is_file()
    (bucket / "dataproc").unlink()
    _next_job_runs(api, cluster.id)


def test_an_archive_that_cannot_be_unpacked_fails_its_job_alone(tmp_path: Path) -> None:
    """Fails when an encrypted archive, for which Python raises an unusual exception, ends the emulator."""
    spark = {"python": "/usr/bin/false", "spark_home": str(tmp_path / "spark"), "java_home": str(tmp_path / "java")}
    with emulated(tmp_path / "state", jobs={"runner": "spark", "spark": spark}) as api:
        bucket = Path(api.cloud["buckets"]) / BUCKET
        (bucket / "main.py").write_text("")
        _write_encrypted_zip(bucket / "secret.zip")
        cluster = api.create_cluster("disk")
        job_id, operation = api.create_job(cluster.id, archive_uris=[f"s3a://{BUCKET}/secret.zip#venv"])
        status, message = _ended(api, job_id, operation)
        assert status == "ERROR"
        assert "encrypted" in message
        assert "encrypted" in api.emulator.log(job_id)
        assert api.emulator.health()


def _write_encrypted_zip(path: Path) -> None:
    """A zip file whose only member is marked as encrypted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file", "content")
    content = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(header) + offset] |= 1
    path.write_bytes(content)
