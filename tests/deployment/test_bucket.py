"""Uploads with the real s3cmd to a real S3 server: what is stored, what is skipped, how failures are reported."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.object_storage import BUCKET, KEY, SECRET, Server, serving

from deployment import bucket
from deployment.errors import UNREACHABLE, DeploymentError
from deployment.identity import StorageKey
from deployment.paths import ROOT, write_atomic


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--key", KEY) as started:
        yield started


@pytest.fixture
def s3(server: Server) -> Server:
    """The server with an empty bucket."""
    return server.emptied()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "input data"
    for name in ("transactions/2026-05-01/part 1.csv", "transactions/2026-05-02.parquet", "labels.csv"):
        write_atomic(folder / name, f"content of {name}\n".encode())
    write_atomic(folder / ".DS_Store", b"x")
    return folder


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "venvs" / "venv.tar.gz"
    monkeypatch.setattr(bucket, "ARCHIVE", path)
    write_atomic(path, b"an archive")
    return path


def current(s3: Server) -> dict[str, str]:
    """Which code a run takes that starts now."""
    found: dict[str, str] = json.loads(s3.content("code/current.json"))
    return found


def test_the_job_lies_where_the_dag_looks_for_it(s3: Server) -> None:
    """Fails when a cluster starts and does not find its job in the bucket."""
    bucket.upload("src", s3.deployment_settings, ROOT)
    found = current(s3)
    code, files = f"code/{found['folder']}", ("fraud_detection.zip", "fraud_detection_model.py", "retraining.yaml")
    others = (f"code/{found['venv']}", "code/current.json", "code/shutdown_host.sh")
    assert s3.names() == sorted([*(f"{code}/{name}" for name in files), *others])
    assert s3.content(f"code/{found['venv']}") == b"an archive"
    assert s3.content(f"{code}/fraud_detection_model.py") == (ROOT / "src" / "fraud_detection_model.py").read_bytes()
    assert s3.content(f"{code}/retraining.yaml") == (ROOT / "conf" / "retraining.yaml").read_bytes()
    with zipfile.ZipFile(io.BytesIO(s3.content(f"{code}/fraud_detection.zip"))) as library:
        names = library.namelist()
    assert {"fraud_detection/__init__.py", "fraud_detection/report/template.html.j2"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.parametrize("survived", range(4))
def test_an_upload_that_breaks_off_leaves_the_earlier_revision_in_use(
    s3: Server, archive: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """Fails when a run takes files of two revisions, or a revision that is not there as a whole."""
    bucket.upload("src", s3.deployment_settings, ROOT)
    earlier, before = current(s3), {name: s3.content(name) for name in s3.names() if name != "code/shutdown_host.sh"}
    files = dict(bucket.code_files()) | {"retraining.yaml": b"changed: true"}
    monkeypatch.setattr(bucket, "code_files", lambda: iter(files.items()))
    write_atomic(archive, b"another archive")
    sync, left = bucket.S3cmd.sync, [survived]

    def breaking_off(storage: bucket.S3cmd, *words: str) -> None:
        if left[0] == 0:
            raise DeploymentError("the network is down")
        left[0] -= 1
        sync(storage, *words)

    with monkeypatch.context() as patched, pytest.raises(DeploymentError, match="network"):
        patched.setattr(bucket.S3cmd, "sync", breaking_off)
        bucket.upload("src", s3.deployment_settings, ROOT)
    assert {name: s3.content(name) for name in before} == before
    bucket.upload("src", s3.deployment_settings, ROOT)
    now = current(s3)
    assert now["folder"] != earlier["folder"]
    assert now["venv"] != earlier["venv"]
    assert s3.content(f"code/{now['folder']}/retraining.yaml") == b"changed: true"
    assert s3.content(f"code/{earlier['folder']}/retraining.yaml") != b"changed: true"  # a run may still be using it


@pytest.mark.slow
def test_what_is_unchanged_is_not_sent_again(s3: Server, data: Path) -> None:
    """Fails when each deployment uploads everything again, also the 147 MB of the archive."""
    for _ in range(2):
        bucket.upload("src", s3.deployment_settings, data)
        bucket.upload("data", s3.deployment_settings, data)
    assert len(s3.writes()) == 9
    write_atomic(data / "labels.csv", b"content of labels.csw\n")  # as long as before
    bucket.upload("data", s3.deployment_settings, data)
    assert s3.writes()[9:] == [f"PUT /{BUCKET}/input_data/labels.csv"]


def test_a_file_of_many_parts_is_recognised_too(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fails when the archive is uploaded every time, because its multipart checksum is not that of the file."""
    archive = tmp_path / "venv.tar.gz"
    write_atomic(archive, os.urandom(16_000_000))
    monkeypatch.setattr(bucket, "ARCHIVE", archive)
    bucket.upload("venv", s3.deployment_settings, tmp_path)
    first = s3.writes()
    assert len(first) > 2, "not sent in parts"
    bucket.upload("venv", s3.deployment_settings, tmp_path)
    assert s3.writes() == first
    (name,) = s3.names("code/venvs/")
    assert s3.content(name) == archive.read_bytes()


def test_data_keep_their_folders_and_are_never_deleted_in_the_bucket(s3: Server, data: Path) -> None:
    """Fails when an upload from a machine with a short history deletes older transactions from the bucket."""
    s3.client.put_object(Bucket=BUCKET, Key="input_data/transactions/2020.parquet", Body=b"old")
    bucket.upload("data", s3.deployment_settings, data)
    assert s3.names() == [
        "input_data/labels.csv",
        "input_data/transactions/2020.parquet",
        "input_data/transactions/2026-05-01/part 1.csv",
        "input_data/transactions/2026-05-02.parquet",
    ]


def test_a_dag_that_is_gone_here_goes_there_and_nothing_beside_it(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a deleted DAG goes on running, or its removal deletes the job or all DAGs."""
    monkeypatch.setattr(bucket, "dag_files", lambda: iter([("kept.py", b"1"), ("gone.py", b"2")]))
    bucket.upload("dags", s3.deployment_settings, ROOT)
    s3.client.put_object(Bucket=BUCKET, Key="code/venv.tar.gz", Body=b"x")
    assert s3.names() == ["code/venv.tar.gz", "dags/gone.py", "dags/kept.py"]
    monkeypatch.setattr(bucket, "dag_files", lambda: iter([("kept.py", b"1")]))
    bucket.upload("dags", s3.deployment_settings, ROOT)
    assert s3.names() == ["code/venv.tar.gz", "dags/kept.py"]
    monkeypatch.setattr(bucket, "dag_files", lambda: iter(()))
    with pytest.raises(DeploymentError, match="nothing to upload"):
        bucket.upload("dags", s3.deployment_settings, ROOT)
    assert s3.names("dags/") == ["dags/kept.py"], "an empty folder emptied the bucket"


def test_the_package_of_the_dags_replaces_the_module_of_an_earlier_release(s3: Server) -> None:
    """Fails when Airflow finds DAGs without the package they import, or parses a module that they no longer have."""
    s3.client.put_object(Bucket=BUCKET, Key="dags/fraud_detection_cloud.py", Body=b"old")
    bucket.upload("dags", s3.deployment_settings, ROOT)
    expected = [path.relative_to(ROOT).as_posix() for path in (ROOT / "dags").rglob("*.py")]
    assert s3.names("dags/") == sorted([*expected, "dags/.airflowignore"])
    assert "dags/fraud_detection_common/operators.py" in expected


def test_results_are_fetched_once(s3: Server, tmp_path: Path) -> None:
    """Fails when a download misses new decisions, or fetches gigabytes again."""
    for name in ("decisions/20260501T000000Z.json", "reports/a b/report.html"):
        s3.client.put_object(Bucket=BUCKET, Key=f"output_data/{name}", Body=name.encode())
    folder = tmp_path / "output"
    for _ in range(2):
        bucket.download_output(s3.deployment_settings, folder)
        assert (folder / "reports" / "a b" / "report.html").read_text() == "reports/a b/report.html"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["20260501T000000Z.json", "report.html"]


def test_a_refused_key_fails_loudly_and_does_not_show_the_secret(s3: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """Fails when an upload with a refused key looks successful, or prints the key's secret."""
    with pytest.raises(DeploymentError, match="access is denied"):
        bucket.upload("src", {**s3.deployment_settings, "AWS_ACCESS_KEY_ID": "AKIDOTHER"}, ROOT)
    shown = "".join(capfd.readouterr())
    assert "AccessDenied" in shown
    assert SECRET not in shown
    assert s3.names() == []


def test_a_bucket_that_is_not_there_is_named(s3: Server) -> None:
    """Fails when a bucket mistyped in .env looks like a broken network."""
    with pytest.raises(DeploymentError, match=r"s3://other/code/.*does not exist"):
        bucket.upload("src", {**s3.deployment_settings, "CODE_BUCKET": "other"}, ROOT)


def test_a_short_outage_is_survived(s3: Server) -> None:
    """Fails when one failed request stops a deployment half-way."""
    s3.outage(status=503, times=1, method="PUT")
    bucket.upload("src", s3.deployment_settings, ROOT)
    assert len(s3.names()) == 6


def test_nobody_at_the_address_is_worth_another_try(data: Path) -> None:
    """Fails when a script cannot distinguish an unreachable storage from a wrong setting by the exit code."""
    settings = {"INPUT_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with pytest.raises(DeploymentError, match="continues where it stopped") as failed:
        bucket.upload("data", {**settings, "S3_ENDPOINT": "http://127.0.0.1:9"}, data)
    assert failed.value.exit_code == UNREACHABLE


def test_a_missing_s3cmd_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a damaged .venv-cloud ends with "a part of the files failed" and advice that does not help."""
    monkeypatch.setattr(bucket, "_S3CMD", tmp_path / "s3cmd")
    with pytest.raises(DeploymentError, match=r"s3cmd is not installed; .*make cloud-tools"):
        bucket.S3cmd("https://storage.example", StorageKey(KEY, SECRET, "session")).sync("a", "s3://b/")


def test_the_key_is_in_no_argument_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when another user of the machine can read the storage's key in the process list or in a file."""
    seen = tmp_path / "seen"
    fake = tmp_path / "s3cmd"
    fake.write_text(
        "import os, sys\n"
        "config = sys.argv[sys.argv.index('--config') + 1]\n"
        "mode = oct(os.stat(config).st_mode & 0o777)\n"
        "found = {name: value for name, value in os.environ.items() if name.startswith(('AWS_', 'S3CMD_'))}\n"
        f"open({str(seen)!r}, 'w').write(repr([sys.argv, mode, open(config).read(), sorted(found)]))\n"
    )
    monkeypatch.setattr(bucket, "_S3CMD", fake)
    monkeypatch.setenv("AWS_ACCESS_KEY", "somebody-elses")
    monkeypatch.setenv("S3CMD_CONFIG", "/nowhere")
    bucket.S3cmd("https://storage.example", StorageKey(KEY, SECRET, "session")).sync("a", "s3://b/")
    text = seen.read_text()
    assert SECRET not in text
    assert KEY not in text
    assert "'0o600'" in text
    assert "['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN']" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "CODE_BUCKET is not set.*make env"),
        ({"CODE_BUCKET": "b"}, "no key of the object storage"),
        ({"CODE_BUCKET": "b", "AWS_ACCESS_KEY_ID": "k"}, "AWS_SECRET_ACCESS_KEY is missing"),
        (
            {"CODE_BUCKET": "b", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "S3_ENDPOINT": "x"},
            "such as https",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_next_command(settings: dict[str, str], said: str) -> None:
    """Fails when a missing setting ends in a message of s3cmd that does not say what to do."""
    with pytest.raises(DeploymentError, match=said):
        bucket.upload("src", settings, ROOT)


def test_missing_data_are_reported_before_anything_is_sent(tmp_path: Path, s3: Server) -> None:
    """Fails when a full deployment succeeds without any transaction to train on."""
    with pytest.raises(DeploymentError, match="make create-data"):
        bucket.upload("data", s3.deployment_settings, tmp_path / "nothing")


def test_the_script_uploads_its_arguments_and_exits_with_the_reason(s3: Server, tmp_path: Path, data: Path) -> None:
    """Fails when scripts/upload_to_s3.sh uploads something else than its arguments say, or hides a failure."""
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}='{value}'\n" for name, value in s3.deployment_settings.items()))
    command = ["bash", str(ROOT / "scripts" / "upload_to_s3.sh"), "dags", "data", "--data", str(data)]
    environment = {**os.environ, "PYTHON": sys.executable}
    program = [sys.executable, "-m", "deployment.bucket", "--env", str(env_file)]
    program += ["upload", "dags", "data", "--data", str(data)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(s3.names()) == len(dict(bucket.dag_files())) + 3
    assert "upload:" in done.stdout, "no progress is shown"
    done = subprocess.run(
        command,
        env={**environment, **s3.deployment_settings, "S3_ENDPOINT": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: S3_ENDPOINT is not the address" in done.stderr
    done = subprocess.run(
        command, env={**environment, **s3.deployment_settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
