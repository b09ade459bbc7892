"""Who belongs to the fleet: the servers whose certificates its authority has signed."""

import functools
import warnings
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.utils import CryptographyDeprecationWarning

from runtime.errors import IdentityError
from runtime.swarm.authority import fleet_of
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    certificate_peer_id,
    private_key,
    read_certificate,
)

# Everything that foreign bytes can make the parser or the check of the signature raise.
_NO_CERTIFICATE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    # What a certificate may not have, and the parser only warns of.
    CryptographyDeprecationWarning,
)


class Membership:
    """One server's certificate, and the judgement of the others'."""

    def __init__(self, identity: Path, fleet: str) -> None:
        """Load a server's key and certificates.

        Raises:
            IdentityError: one is missing, expired or of another fleet.
        """
        self._fleet = fleet
        self._authority = read_certificate(identity / AUTHORITY)
        self.key = private_key(identity)
        own = read_certificate(identity / CERTIFICATE)
        self.certificate = own.public_bytes(serialization.Encoding.DER)
        if self.member(self.certificate) is None:
            raise IdentityError(
                f"the certificate in {identity} is not valid for fleet '{fleet}': it is of fleet "
                f"'{fleet_of(own)}', ends on {own.not_valid_after_utc:%Y-%m-%d}",
                hint="deploy the fleet again; it renews certificates",
            )
        self.peer_id = certificate_peer_id(own)

    def member(self, certificate: bytes) -> rsa.RSAPublicKey | None:
        """Return the key of a member's DER certificate, or None if it is not a member's."""
        parsed = self._issued(certificate)
        now = datetime.now(UTC)
        if parsed is None or not parsed.not_valid_before_utc <= now <= parsed.not_valid_after_utc:
            return None
        key = parsed.public_key()
        return key if isinstance(key, rsa.RSAPublicKey) else None

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - a server has one Membership for all its life
    def _issued(self, certificate: bytes) -> x509.Certificate | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", CryptographyDeprecationWarning)
                parsed = x509.load_der_x509_certificate(certificate)
            parsed.verify_directly_issued_by(self._authority)
        except _NO_CERTIFICATE:
            return None
        return parsed if fleet_of(parsed) == self._fleet else None
