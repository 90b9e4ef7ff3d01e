"""Ids as the cloud makes them: three characters that tell the service, then seventeen at random."""

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
