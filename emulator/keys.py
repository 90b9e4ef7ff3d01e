"""Keys and certificates of the emulator, made once and kept in the state folder, readable by their owner alone."""

import base64
import ipaddress
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emulator.ids import ACCOUNT, new_id

_VALID = timedelta(days=825)  # the longest that common TLS clients accept


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)


def make_certificates(folder: Path) -> None:
    """`ca.pem`, and `server.key` + `server.pem` for 127.0.0.1 and localhost; the authority's own key is not kept."""
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local cloud emulator CA")])
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    hosts = [x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        _certificate(name, ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    write_private(folder / "server.key", _private_pem(key))
    write_private(folder / "server.pem", certificate.public_bytes(serialization.Encoding.PEM))
    write_private(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))


def certificate_is_good(path: Path) -> bool:
    """Whether the server's certificate is there and lasts another month."""
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
    write_private(path, json.dumps(content, indent=2).encode())
    return key_id, public.decode()


def make_ssh_public_key() -> str:
    """A public key nobody holds the private part of: nodes that do not exist need no shell."""
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


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
