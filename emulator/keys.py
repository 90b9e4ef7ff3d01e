"""Keys and certificates of the emulator, created once and kept in the state folder, readable only by their owner."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from emulator.files import write_atomic
from emulator.ids import ACCOUNT, new_id

_HOSTS = ("127.0.0.1", "localhost")
_VALIDITY = timedelta(days=825)  # the longest that common TLS clients accept


def make_certificates(folder: Path) -> None:
    """`ca.pem`, and `server.key` + `server.pem` for 127.0.0.1 and localhost. The authority's own key is not kept."""
    authority = trustme.CA(organization_name="local cloud emulator CA")
    server = authority.issue_cert(*_HOSTS, common_name=_HOSTS[0], not_after=datetime.now(UTC) + _VALIDITY)
    write_atomic(folder / "server.key", server.private_key_pem.bytes())
    write_atomic(folder / "server.pem", server.cert_chain_pems[0].bytes())
    write_atomic(folder / "ca.pem", authority.cert_pem.bytes())


def are_certificates_valid(folder: Path) -> bool:
    """Whether the authority's and the server's certificates exist and are valid for another month."""
    return all(_lasts_another_month(folder / name) for name in ("ca.pem", "server.pem"))


def _lasts_another_month(path: Path) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=30)


def make_service_account_key(path: Path, service_account_id: str) -> tuple[str, str]:
    """Write a key file as `yc iam key create` does (and the connection takes it); returns key id and public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_id = new_id(ACCOUNT)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    banner = f"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <{key_id}>\n"
    content = {
        "id": key_id,
        "service_account_id": service_account_id,
        "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "key_algorithm": "RSA_2048",
        "public_key": public.decode(),
        "private_key": banner + _private_pem(key).decode(),
    }
    write_atomic(path, json.dumps(content, indent=2).encode())
    return key_id, public.decode()


def make_ssh_public_key() -> str:
    """A public key whose private key is discarded: emulated nodes have no shell."""
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    text = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{text.decode()} emulator"


def is_ssh_public_key(text: str) -> bool:
    """Whether a text has the form of an OpenSSH public key: type, base64 that starts with that type, comment."""
    parts = text.strip().split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(("ssh-", "ecdsa-sha2-", "sk-")):
        return False
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except ValueError:
        return False
    return blob[4 : 4 + len(parts[0])] == parts[0].encode()


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
