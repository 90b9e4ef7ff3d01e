"""Who calls: service accounts, their keys, and IAM tokens.

A token is random; only its hash is stored, so the state folder holds nothing that could be replayed.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import jwt
from google.protobuf.timestamp_pb2 import Timestamp
from yandex.cloud.iam.v1 import iam_token_service_pb2 as api

from emulator.errors import ApiError
from emulator.store import Store

_REAL_AUDIENCE = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
_LONGEST_JWT = 3600  # seconds between iat and exp, as documented
_LEEWAY = 60  # seconds that clocks may differ


@dataclass(frozen=True)
class Caller:
    """The service account behind a call and the key its token was made with (`metadata` for a node's token)."""

    id: str
    name: str
    key_id: str


ANONYMOUS = Caller("", "", "")


class Iam:
    """IamTokenService, and the check of every other call's token."""

    def __init__(self, store: Store, lifetime: float, audiences: Callable[[], list[str]]) -> None:
        self._store = store
        self._lifetime = lifetime
        self._audiences = audiences

    def create(self, request: api.CreateIamTokenRequest, _caller: Caller) -> api.CreateIamTokenResponse:
        if request.WhichOneof("identity") != "jwt":
            raise _refused("OAuth tokens are of user accounts, which the emulator does not have; use a key's JWT")
        account_id, key_id = self._verified(request.jwt)
        token, expires = self.issue(account_id, key_id)
        return api.CreateIamTokenResponse(iam_token=token, expires_at=Timestamp(seconds=int(expires)))

    def issue(self, account_id: str, key_id: str) -> tuple[str, float]:
        """A new token of a service account and the time of its end (seconds since 1970)."""
        token = f"t1.{secrets.token_urlsafe(96)}"
        now = time.time()
        expires = now + self._lifetime
        with self._store.transaction():
            for old in self._store.find("token", owner=account_id):
                if old.data["expires"] <= now:
                    self._store.delete("token", old.id)
            self._store.put("token", _hash(token), owner=account_id, data={"key_id": key_id, "expires": expires})
        return token, expires

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller of an `authorization: Bearer …` header. Raises UNAUTHENTICATED."""
        if not authorization:
            raise _refused("The request has no IAM token: send it as `authorization: Bearer TOKEN`")
        scheme, _, token = authorization.partition(" ")
        record = self._store.get("token", _hash(token)) if scheme == "Bearer" else None
        if record is None or record.data["expires"] <= time.time():
            raise _refused("The token is invalid or has expired")
        account = self._store.get("service-account", record.owner)
        if account is None:
            raise _refused("The token's service account does not exist any more")
        return Caller(account.id, account.name, record.data["key_id"])

    def _verified(self, text: str) -> tuple[str, str]:
        """Service account and key of a JWT that is signed, addressed and timed as the API requires."""
        try:
            key_id = jwt.get_unverified_header(text).get("kid", "")
        except jwt.InvalidTokenError as error:
            raise _refused(f"The JWT cannot be read: {error}") from error
        key = self._store.get("key", str(key_id))
        if key is None:
            raise _refused(f"The JWT's key (kid {key_id!r}) is not registered")
        try:
            claims = jwt.decode(
                text,
                key.data["public_key"],
                algorithms=["PS256"],
                audience=[_REAL_AUDIENCE, *self._audiences()],
                issuer=key.owner,
                leeway=_LEEWAY,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.InvalidTokenError as error:
            raise _refused(f"The JWT is invalid: {error}") from error
        if claims["exp"] - claims["iat"] > _LONGEST_JWT:
            raise _refused(f"The JWT is invalid: it lasts longer than {_LONGEST_JWT} seconds")
        if claims["exp"] <= time.time():
            raise _refused("The JWT is invalid: Signature has expired")  # the leeway is for iat alone
        return key.owner, key.id


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _refused(message: str) -> ApiError:
    return ApiError(grpc.StatusCode.UNAUTHENTICATED, message)
