"""Object storage for tests: the server's process, and an environment that points to it."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

BUCKET = "bucket"
KEY, SECRET, TOKEN = "test-key-id", "test-secret-0f3a", "t1.test-iam-token"
NAMES = ("AWS_", "MLFLOW_S3_", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "YC_METADATA_ADDR")


@dataclass(frozen=True)
class Server:
    """A running server with one bucket, and its contents."""

    endpoint: str
    earlier_writes: int = 0

    def outage(self, **options: object) -> None:
        """Let requests fail: status, times, method, after, code."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_outage?{query}", method="POST")).close()  # noqa: S310

    def requests(self) -> list[str]:
        """The requests in their order: METHOD PATH [RANGE]."""
        with urllib.request.urlopen(f"{self.endpoint}/_requests") as answer:  # noqa: S310
            found: list[str] = json.load(answer)
        return found

    def writes(self) -> list[str]:
        """What was put, posted or deleted since the bucket was emptied."""
        writes = [request for request in self.requests() if request.split()[0] in ("PUT", "POST", "DELETE")]
        return writes[self.earlier_writes :]

    @property
    def client(self) -> Any:
        """A client with the access key."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="ru-central1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def content(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def emptied(self) -> "Server":
        """The same server without objects, and without the writes until now."""
        for name in self.names():
            self.client.delete_object(Bucket=BUCKET, Key=name)
        return Server(self.endpoint, self.earlier_writes + len(self.writes()))

    @property
    def deployment_settings(self) -> dict[str, str]:
        """The settings of `.env` that lead to it."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "CODE_BUCKET": BUCKET,
            "INPUT_BUCKET": BUCKET,
            "OUTPUT_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A server process; it pages after 5 names."""
    program = [sys.executable, str(Path(__file__).with_name("s3_server.py")), *options]
    environment = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": "5"}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()


class Metadata(ThreadingHTTPServer):
    """A machine's metadata endpoint: returns TOKEN, and counts its requests."""

    daemon_threads = True

    def __init__(self, expires_in: int = 43200, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _MetadataHandler)
        self.expires_in = expires_in
        self.status = status
        self.asked = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Metadata"]:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


class _MetadataHandler(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        self.server.asked += 1
        expected = "/computeMetadata/v1/instance/service-accounts/default/token"
        status = self.server.status if self.path == expected and self.headers["Metadata-Flavor"] == "Google" else 404
        body = json.dumps({"access_token": TOKEN, "expires_in": self.server.expires_in, "token_type": "Bearer"})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode() if status == 200 else b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


def use(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Replace the environment's storage by another. AWS_CA_BUNDLE stays: it must do no harm."""
    for name in os.environ:
        if name.startswith(NAMES) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    # waitress waits for ever for the body of an empty object that was announced by Expect: 100-continue
    patience = {"BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE": "true"}
    for name, value in (nowhere | patience | variables).items():
        monkeypatch.setenv(name, value)


def use_keys(monkeypatch: pytest.MonkeyPatch, endpoint: str, **variables: str) -> None:
    """Use a storage with the access key."""
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    use(monkeypatch, AWS_ENDPOINT_URL_S3=endpoint, **(keys | variables))
