"""Ids in the cloud's form: three characters for the service, then seventeen random ones."""

import secrets

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"

DATAPROC = "c9q"
FOLDER = "b1g"
NETWORK = "enp"
SUBNET = "e9b"
ACCOUNT = "aje"
LOCKBOX = "e6q"


def new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(17))
