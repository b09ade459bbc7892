"""The fleet's own certificate authority, on the operator's side.

Its key never leaves the operator's directory. It signs a server's public key only, writes the name
of the fleet and of the server into the certificate, and keeps a copy of what it signed: these
copies are how a plan knows every server's peer id before anything is started.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.errors import IdentityError
from runtime.spec.base import Frozen
from runtime.spec.fleet import Site
from runtime.spec.paths import authority_path
from runtime.spec.plan import Peer
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    certificate_peer_id,
    expiry,
    private_key,
    read_certificate,
    signing_request,
)
from runtime.swarm.identity import create_identity as create_key

_AUTHORITY_LIFE = timedelta(days=3650)
_CERTIFICATE_LIFE = timedelta(days=365)
_RENEWED_BEFORE = timedelta(days=60)
# Hosts' clocks may be behind the operator's by this much.
_CLOCK_SKEW = timedelta(hours=1)

_MARK_LENGTH = 16

_AUTHORITY_CERTIFICATE = "authority.pem"
_PEERS = "peers"


class Signed(Frozen):
    """A certificate, its authority's certificate, both PEM, and whether it was signed just now."""

    changed: bool
    certificate: str
    authority: str


class Authority:
    """The certificate authority of one fleet."""

    def __init__(self, directory: Path, fleet: str) -> None:
        """Use the authority in `directory`, which `create` makes."""
        self._directory = directory
        self._fleet = fleet

    def exists(self) -> bool:
        """Return whether the authority has been made."""
        return (self._directory / _AUTHORITY_CERTIFICATE).exists()

    def mark(self) -> str:
        """Return a short text that this authority alone has, or "" while it has not been made.

        Two fleets may have one name; by this, what belongs to one is told from the other's.
        """
        if not self.exists():
            return ""
        certificate = read_certificate(self._directory / _AUTHORITY_CERTIFICATE)
        return certificate.fingerprint(hashes.SHA256()).hex()[:_MARK_LENGTH]

    def create(self) -> bool:
        """Make the authority unless it is there; return whether it was made."""
        if self.exists():
            return False
        create_key(self._directory)
        key = private_key(self._directory)
        now = datetime.now(UTC)
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "stagefleet"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{self._fleet} authority"),
            ]
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        _write_pem(self._directory / _AUTHORITY_CERTIFICATE, certificate)
        return True

    def sign(self, server: str, request: str, *, check: bool = False) -> Signed:
        """Return a certificate for a server's request, the one from before while it still serves.

        Args:
            server: the server's name in the fleet, "stage-1" or "gpu-a-server-1".
            request: the PEM signing request that the server's host made.
            check: sign nothing; `changed` then says whether it would be signed.

        Raises:
            IdentityError: there is no authority, or the request is damaged.
        """
        public_key = _requested_key(request, server)
        if check and not self.exists():
            return Signed(changed=True, certificate="", authority="")
        authority = read_certificate(self._directory / _AUTHORITY_CERTIFICATE)
        path = self._directory / _PEERS / f"{server}.pem"
        known = read_certificate(path) if path.exists() else None
        fresh = (
            known is not None
            and known.public_key() == public_key
            and _is_issued_by(known, authority)
            and not _renewal_due(known)
        )
        if not fresh and not check:
            known = self._certificate(server, public_key, authority)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            _write_pem(path, known)
        return Signed(
            changed=not fresh,
            certificate=_pem(known) if known is not None else "",
            authority=_pem(authority),
        )

    def issue(self, server: str, directory: Path) -> bool:
        """Give `directory` a key, unless it has one, and its certificates; return what changed.

        Raises:
            IdentityError: there is no authority, or the key is damaged.
        """
        made = create_key(directory)
        signed = self.sign(server, signing_request(private_key(directory)))
        (directory / CERTIFICATE).write_text(signed.certificate)
        (directory / AUTHORITY).write_text(signed.authority)
        return made or signed.changed

    def peers(self) -> dict[str, Peer]:
        """Return, by their names, the servers that have a certificate."""
        return {
            path.stem: _peer(read_certificate(path))
            for path in sorted((self._directory / _PEERS).glob("*.pem"))
        }

    def _certificate(
        self, server: str, public_key: rsa.RSAPublicKey, authority: x509.Certificate
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, self._fleet),
                        x509.NameAttribute(NameOID.COMMON_NAME, server),
                    ]
                )
            )
            .issuer_name(authority.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + _CERTIFICATE_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_issuer_key(authority), critical=False)
            .sign(private_key(self._directory), hashes.SHA256())
        )


def fleet_of(certificate: x509.Certificate) -> str:
    """Return the name of the fleet that a server's certificate belongs to, or an empty string."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def fleet_authority(site: Site) -> Authority:
    """Return the authority of a fleet, where its inventory says that it is on this machine."""
    return Authority(Path(authority_path(site)).expanduser(), site.name)


def _peer(certificate: x509.Certificate) -> Peer:
    return Peer(
        peer_id=certificate_peer_id(certificate),
        certificate_sha256=hashlib.sha256(_pem(certificate).encode()).hexdigest(),
        renewal_due=_renewal_due(certificate),
    )


def _renewal_due(certificate: x509.Certificate) -> bool:
    return expiry(certificate) - datetime.now(UTC) <= _RENEWED_BEFORE


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _requested_key(request: str, server: str) -> rsa.RSAPublicKey:
    try:
        parsed = x509.load_pem_x509_csr(request.encode())
    except ValueError as error:
        raise IdentityError(f"the request of {server} cannot be read: {error}") from error
    key = parsed.public_key()
    # The signature proves that whoever asks holds the key that the peer id stands for.
    if not parsed.is_signature_valid or not isinstance(key, rsa.RSAPublicKey):
        raise IdentityError(f"the request of {server} is not signed by the RSA key it carries")
    return key


def _issuer_key(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _write_pem(path: Path, certificate: x509.Certificate) -> None:
    # Not with_suffix: names of hosts have dots.
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(_pem(certificate))
    partial.replace(path)
