from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from runtime.errors import IdentityError
from runtime.swarm import authority
from runtime.swarm.authority import Authority, fleet_of
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    certificate_peer_id,
    create_identity,
    peer_id,
    private_key,
    read_certificate,
    signing_request,
)


@pytest.fixture
def made(tmp_path: Path) -> Authority:
    found = Authority(tmp_path / "authority", "lab")
    assert found.create()
    return found


@pytest.fixture(scope="module")
def request_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("key")
    create_identity(directory)
    return signing_request(private_key(directory))


def test_a_certificate_names_fleet_and_server_and_stands_for_the_requests_key(
    made: Authority, request_text: str
) -> None:
    signed = made.sign("stage-1", request_text)
    certificate = x509.load_pem_x509_certificate(signed.certificate.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(signed.authority.encode()))
    request = x509.load_pem_x509_csr(request_text.encode())
    assert fleet_of(certificate) == "lab"
    assert certificate_peer_id(certificate) == peer_id(request.public_key())  # type: ignore[arg-type]  # an RSA key, made above
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_signing_again_gives_the_same_certificate(made: Authority, request_text: str) -> None:
    first = made.sign("stage-1", request_text)
    again = made.sign("stage-1", request_text)
    assert (first.changed, again.changed) == (True, False)
    assert first.certificate == again.certificate
    assert not made.create()


def test_another_key_or_an_old_certificate_is_signed_anew(
    made: Authority, request_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made.sign("stage-1", request_text)
    monkeypatch.setattr(authority, "_RENEWED_BEFORE", timedelta(days=366))
    assert made.peers()["stage-1"].renewal_due
    renewed = made.sign("stage-1", request_text)
    assert renewed.changed
    assert renewed.certificate != first.certificate
    monkeypatch.undo()
    create_identity(tmp_path / "other")
    assert made.sign("stage-1", signing_request(private_key(tmp_path / "other"))).changed


def test_a_new_authority_does_not_take_over_the_certificates_of_the_old_one(
    made: Authority, request_text: str, tmp_path: Path
) -> None:
    made.sign("stage-1", request_text)
    for path in (tmp_path / "authority").glob("*.*"):
        path.unlink()
    made.create()
    assert made.sign("stage-1", request_text).changed


def test_check_signs_nothing(tmp_path: Path, request_text: str) -> None:
    virgin = Authority(tmp_path / "authority", "lab")
    assert virgin.sign("stage-1", request_text, check=True).changed
    assert not (tmp_path / "authority").exists()
    virgin.create()
    assert virgin.sign("stage-1", request_text, check=True).certificate == ""
    assert virgin.peers() == {}


def test_what_was_signed_tells_every_peer_id_by_name(made: Authority, request_text: str) -> None:
    names = ["gpu-a-server-1", "gpu.b.example-server-1", "stage-1"]
    for name in names:
        made.sign(name, request_text)
    peers = made.peers()
    assert sorted(peers) == names
    assert len(peers["stage-1"].certificate_sha256) == 64
    assert not peers["stage-1"].renewal_due
    assert len({peer.certificate_sha256 for peer in peers.values()}) == 3


def test_a_request_that_is_none_is_refused(made: Authority) -> None:
    with pytest.raises(IdentityError, match="request of stage-1 cannot be read"):
        made.sign("stage-1", "nonsense")


def test_without_an_authority_nothing_is_signed(tmp_path: Path, request_text: str) -> None:
    with pytest.raises(IdentityError, match="there is no certificate at"):
        Authority(tmp_path, "lab").sign("stage-1", request_text)


def test_certificates_start_before_now_for_clocks_that_are_behind(
    made: Authority, request_text: str
) -> None:
    signed = made.sign("stage-1", request_text)
    certificate = x509.load_pem_x509_certificate(signed.certificate.encode())
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=30)


def test_issuing_makes_a_key_once_and_certificates_that_fit_it(
    made: Authority, tmp_path: Path
) -> None:
    directory = tmp_path / "stage-1"
    assert made.issue("stage-1", directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert not made.issue("stage-1", directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    certificate = read_certificate(directory / CERTIFICATE)
    assert certificate_peer_id(certificate) == peer_id(private_key(directory).public_key())
    certificate.verify_directly_issued_by(read_certificate(directory / AUTHORITY))
