"""The emulator's certificates: valid for its addresses, stable across starts, renewed before they expire."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from emulator import keys
from emulator.folder import prepare
from emulator.settings import Settings

FILES = ("ca.pem", "server.key", "server.pem")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    prepare(tmp_path, Settings())
    return tmp_path


def _contents(state: Path) -> list[bytes]:
    return [(state / name).read_bytes() for name in FILES]


def test_clients_keep_their_trust_when_the_emulator_restarts(state: Path) -> None:
    """Fails when a restart changes the authority, and running clients reject the emulator."""
    before = _contents(state)
    prepare(state, Settings())
    assert _contents(state) == before


def test_certificates_are_private_and_name_the_emulators_addresses(state: Path) -> None:
    """Fails when another user can read the server's key, or a client rejects https://localhost."""
    assert [(state / name).stat().st_mode & 0o777 for name in FILES] == [0o600] * 3
    server = x509.load_pem_x509_certificate((state / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    authority = x509.load_pem_x509_certificate((state / "ca.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    assert server.not_valid_after_utc < datetime.now(UTC) + timedelta(days=826), "some TLS clients reject it"


def test_certificates_that_expire_soon_are_renewed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an emulator that runs for years presents an expired certificate."""
    monkeypatch.setattr(keys, "_VALIDITY", timedelta(days=29))
    keys.make_certificates(state)
    monkeypatch.undo()
    before = _contents(state)
    prepare(state, Settings())
    assert all(new != old for new, old in zip(_contents(state), before, strict=True))


@pytest.mark.parametrize("problem", ["missing", "expires soon"])
def test_an_authority_that_clients_cannot_use_is_renewed(
    state: Path, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the server's certificate is valid but clients have no valid authority to check it with."""
    if problem == "missing":
        (state / "ca.pem").unlink()
    else:
        monkeypatch.setattr(trustme, "DEFAULT_EXPIRY", datetime.now(UTC) + timedelta(days=29))
        (state / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
        monkeypatch.undo()
    old = (state / "server.pem").read_bytes()
    prepare(state, Settings())
    assert keys.are_certificates_valid(state)
    assert (state / "server.pem").read_bytes() != old
