"""A real S3 server with one bucket, and a client that reads it without s3cmd."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

SERVER = Path(__file__).with_name("s3_server.py")
BUCKET = "bucket"
KEY = "AKIDEXAMPLE"
SECRET = "storage-secret-that-must-not-show"  # noqa: S105  # of this machine's own server


@dataclass(frozen=True)
class S3:
    url: str
    earlier_writes: int = 0

    @property
    def settings(self) -> dict[str, str]:
        """The settings that `.env` would contain."""
        return {
            "S3_ENDPOINT": self.url,
            "CODE_BUCKET": BUCKET,
            "INPUT_BUCKET": BUCKET,
            "OUTPUT_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="ru-central1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )

    def names(self, prefix: str = "") -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def content(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def writes(self) -> list[str]:
        """The requests that wrote or deleted something since the bucket was emptied."""
        with urllib.request.urlopen(f"{self.url}/_requests") as answer:  # noqa: S310  # this machine's own server
            requests: list[str] = json.loads(answer.read())
        writes = [request for request in requests if request.split()[0] in ("PUT", "POST", "DELETE")]
        return writes[self.earlier_writes :]

    def emptied(self) -> "S3":
        for name in self.names():
            self.client.delete_object(Bucket=BUCKET, Key=name)
        return S3(self.url, self.earlier_writes + len(self.writes()))

    def outage(self, status: int, times: int, method: str) -> None:
        query = f"status={status}&times={times}&method={method}"
        request = urllib.request.Request(f"{self.url}/_outage?{query}", method="POST")  # noqa: S310
        urllib.request.urlopen(request)  # noqa: S310


@contextmanager
def s3_server(*options: str) -> Iterator[S3]:
    process = subprocess.Popen([sys.executable, str(SERVER), *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield S3(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.terminate()
        process.wait(10)
