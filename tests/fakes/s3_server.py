"""A real S3 server in its own process: moto behind waitress, with access control and outages.

    python tests/fakes/s3_server.py [--token TOKEN] [--key KEY]      prints its port; there is one bucket, named bucket

With --token it serves only unsigned requests with that token of Yandex Cloud, with --key only those signed by that key.
`POST /_outage?status=503&times=2&method=PUT&after=1` lets the next two PUTs fail, with `after` once their work is done.
"""

import argparse
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import waitress
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends

StartResponse = Callable[..., Any]

_SIGNED = "AWS4-HMAC-SHA256 Credential=account/20260101/ru-central1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass
class Guarded:
    """The application around moto's."""

    application: Any
    token: str | None
    key: str | None
    outages: list[dict[str, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environment: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, method = environment["PATH_INFO"], environment["REQUEST_METHOD"]
        if path == "/_outage":
            self.outages.append(dict(parse_qsl(environment["QUERY_STRING"])))
            return _answer(start_response, "204 No Content", b"")
        if path == "/_requests":
            return _answer(start_response, "200 OK", json.dumps(self.requests).encode())
        self.requests.append(f"{method} {path} {environment.get('HTTP_RANGE', '')}".strip())
        if not self._may(environment):
            return _refusal(start_response, "403 Forbidden", "AccessDenied")
        outage = self._outage(method)
        if outage is None:
            return self._moto(environment, start_response)
        if "after" in outage:
            list(self._moto(environment, lambda *_: None))
        return _refusal(start_response, f"{outage['status']} Outage", outage.get("code", "InternalError"))

    def _moto(self, environment: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if self.token is not None:  # moto knows no tokens, and takes a request without signature for a stranger's
            environment["HTTP_AUTHORIZATION"] = _SIGNED
        with self.lock:  # moto looks whether an object is there and puts it in two steps; a storage does it in one
            return list(self.application(environment, start_response))

    def _may(self, environment: dict[str, Any]) -> bool:
        signature = environment.get("HTTP_AUTHORIZATION", "")
        token = environment.get("HTTP_X_YACLOUD_SUBJECTTOKEN")
        if self.token is not None:
            return token == self.token and not signature
        if self.key is not None:
            return f"Credential={self.key}/" in signature and token is None
        return True

    def _outage(self, method: str) -> dict[str, str] | None:
        for outage in self.outages:
            if int(outage["times"]) > 0 and outage.get("method", method) == method:
                outage["times"] = str(int(outage["times"]) - 1)
                return outage
        return None


def _refusal(start_response: StartResponse, status: str, code: str) -> Iterable[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    return _answer(start_response, status, body)


def _answer(start_response: StartResponse, status: str, body: bytes) -> Iterable[bytes]:
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
    return [body]


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--token")
    options.add_argument("--key")
    given = options.parse_args()
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("bucket", "ru-central1")
    moto = DomainDispatcherApplication(create_backend_app)  # what it does not know is S3
    server = waitress.create_server(Guarded(moto, given.token, given.key), host="127.0.0.1", port=0, threads=16)
    print(server.effective_port, flush=True)  # noqa: T201
    server.run()
