"""Fakes of the services around MLflow's machine: metadata, Lockbox, PostgreSQL with TLS, a bucket."""

import http.server
import json
import os
import pwd
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rehearsal.processes import answers, free_port, running, wait_for

TOKEN = "t1.token-of-the-machine"  # noqa: S105  (of the metadata below)


def certificates(folder: Path) -> Path:
    """Create a certificate authority and a server certificate for localhost; returns the authority's path."""
    now = datetime.now(UTC)

    def issue(name: str, signer: Any, issuer: x509.Name, key: Any, *, authority: bool) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = x509.CertificateBuilder(
            issuer_name=issuer,
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(minutes=5),
            not_valid_after=now + timedelta(hours=1),
        ).add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return (builder if authority else builder.add_extension(names, critical=False)).sign(signer, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = f"authority {x509.random_serial_number():x}"[:40]
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    root = issue(name, root_key, root_name, root_key, authority=True)
    server = issue("localhost", root_key, root_name, key, authority=False)
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(private)
    (folder / "server.key").chmod(0o600)
    return folder / "ca.pem"


def postgres_programs() -> Path:
    """A PostgreSQL server with TLS, from Debian's package."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.fail("PostgreSQL's server is not installed; expected: Debian's package postgresql")
    return found[-1].parent


@contextmanager
def postgres(folder: Path, password: str) -> Iterator[int]:
    """A server that accepts only encrypted connections with passwords, as the managed one does; yields its port."""
    programs, port = postgres_programs(), free_port()
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    home = Path("/tmp") / f"postgres-{os.getpid()}-{port}"  # noqa: S108  (the other account must get through)
    home.mkdir(mode=0o700)
    certificates(home)
    (home / "password").write_text(password)
    shutil.copy(home / "ca.pem", folder / "ca.pem")
    if account is not None:
        for path in (home, *home.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)

    def drop() -> None:
        if account is not None:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)

    data = home / "data"
    options: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}, "preexec_fn": drop}
    words = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", f"--pwfile={home / 'password'}"]
    subprocess.run(
        [*words, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"], check=True, capture_output=True, **options
    )
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": str(home / "server.pem"),
        "ssl_key_file": str(home / "server.key"),
        "log_statement": "none",
    }
    words = [str(programs / "postgres"), "-D", str(data)]
    words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def query(database: str, statement: str) -> bool:
        environment = {"PATH": os.defpath, "PGPASSWORD": password, "PGSSLMODE": "verify-full"}
        environment["PGSSLROOTCERT"] = str(folder / "ca.pem")
        where = ["-h", "localhost", "-p", str(port), "-U", "mlflow", "-d", database, "-c", statement]
        done = subprocess.run([str(programs / "psql"), "-X", "-q", *where], env=environment, capture_output=True)
        return done.returncode == 0

    try:
        log = folder / "postgres.log"
        with running(words, options["env"], log, Path("/"), before=drop) as process:
            wait_for(lambda: query("postgres", "SELECT 1"), "PostgreSQL", process=process, log=log)
            for database in ("mlflow", "mlflow_auth"):
                assert query("postgres", f"CREATE DATABASE {database}")
            yield port
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def storage(bucket: str) -> Iterator[str]:
    """A real S3 server with an empty bucket; yields its address."""
    program, port = os.environ["MOTO_SERVER"], free_port()
    address = f"http://127.0.0.1:{port}"
    with running([program, "-H", "127.0.0.1", "-p", str(port)], os.environ, Path(os.devnull)) as process:
        wait_for(lambda: answers(address), "S3", process=process)
        with urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")) as answer:  # noqa: S310
            assert answer.status == 200
        yield address


@contextmanager
def cloud(payloads: dict[str, dict[str, str]]) -> Iterator[str]:
    """The metadata's token, and Lockbox for requests that carry it; yields their common address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            secret_id = self.path.removeprefix("/lockbox/v1/secrets/").removesuffix("/payload")
            if self.path == "/computeMetadata/v1/instance/service-accounts/default/token":
                ok = self.headers["Metadata-Flavor"] == "Google"
                self._answer(200 if ok else 403, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._answer(401, {"message": "who is that?"})
            elif secret_id in payloads:
                entries = [{"key": key, "textValue": value} for key, value in payloads[secret_id].items()]
                self._answer(200, {"entries": entries, "versionId": "e6q"})
            else:
                self._answer(403, {"message": "Permission denied"})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
