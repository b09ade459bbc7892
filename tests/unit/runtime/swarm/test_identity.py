from pathlib import Path

import pytest
from cryptography import x509
from hivemind.p2p import PeerID

from runtime.errors import IdentityError
from runtime.swarm.identity import (
    LIBP2P_KEY,
    PRIVATE_KEY,
    create_identity,
    peer_id,
    private_key,
    read_certificate,
    signing_request,
)


def test_the_peer_id_is_the_one_libp2p_derives_from_the_same_key(tmp_path: Path) -> None:
    assert create_identity(tmp_path)
    ours = peer_id(private_key(tmp_path).public_key())
    assert ours == str(PeerID.from_identity((tmp_path / LIBP2P_KEY).read_bytes()))


def test_an_identity_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    assert create_identity(directory)
    before = (directory / PRIVATE_KEY).read_bytes()
    assert not create_identity(directory)
    assert (directory / PRIVATE_KEY).read_bytes() == before
    for path in (directory, directory / PRIVATE_KEY, directory / LIBP2P_KEY):
        assert path.stat().st_mode & 0o077 == 0


def test_a_request_carries_the_key_and_nothing_else(tmp_path: Path) -> None:
    create_identity(tmp_path)
    key = private_key(tmp_path)
    request = x509.load_pem_x509_csr(signing_request(key).encode())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert list(request.subject) == []


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="there is no key at"):
        private_key(tmp_path)
    (tmp_path / PRIVATE_KEY).write_text("nonsense")
    with pytest.raises(IdentityError, match="cannot be read"):
        private_key(tmp_path)
    with pytest.raises(IdentityError, match="there is no certificate at"):
        read_certificate(tmp_path / "certificate.pem")
