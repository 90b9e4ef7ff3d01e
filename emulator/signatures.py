"""Signature version 4 of S3 requests, by the standard library.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()
"""The payload's hash of a request without a body."""
UNSIGNED = "UNSIGNED-PAYLOAD"
"""In its place where the signature does not cover the body."""


@dataclass(frozen=True)
class Signed:
    """What a signature covers; `path` and `query` are as sent, the query's parameters sorted."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """The signed headers, their names in lower case."""
    payload: str
    """Hash of the body, or UNSIGNED-PAYLOAD."""
    stamp: str
    """Time, such as 20260531T101500Z."""
    scope: str
    """DAY/REGION/s3/aws4_request."""

    @property
    def names(self) -> str:
        return ";".join(sorted(self.headers))

    def signature(self, secret_key: str) -> str:
        lines = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in sorted(self.headers))
        canonical = f"{self.method}\n{self.path}\n{self.query}\n{lines}\n{self.names}\n{self.payload}"
        to_sign = f"{ALGORITHM}\n{self.stamp}\n{self.scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{secret_key}".encode()
        for part in self.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, to_sign.encode(), "sha256").hex()
