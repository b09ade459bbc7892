"""TLS between servers: version 1.3, certificates of the fleet's own authority on both sides.

A certificate is not tied to a host name but to a peer id, which is computed from its key; who dials
a peer checks that it is the one it meant.
"""

import ssl
from pathlib import Path

from cryptography import x509

from runtime.errors import IdentityError
from runtime.swarm.authority import fleet_of
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    PRIVATE_KEY,
    certificate_peer_id,
    read_certificate,
)


class Tls:
    """The two contexts of a server: for those who dial it, and for those it dials."""

    def __init__(self, identity: Path) -> None:
        """Load the key and certificates in a server's identity directory.

        Raises:
            IdentityError: something is missing, or does not belong together.
        """
        read_certificate(identity / CERTIFICATE)
        read_certificate(identity / AUTHORITY)
        self.listening = _context(ssl.PROTOCOL_TLS_SERVER, identity)
        self.dialling = _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def _context(protocol: int, identity: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(identity / AUTHORITY)
        context.load_cert_chain(identity / CERTIFICATE, identity / PRIVATE_KEY)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(
            f"the certificate in {identity} does not fit its key: {error}",
            hint="deploy the fleet again; it signs a new certificate",
        ) from error
    return context


def certified(ssl_object: ssl.SSLObject, fleet: str) -> str:
    """Return the peer id that the other side of a TLS connection has proven.

    Raises:
        IdentityError: its certificate is missing or belongs to another fleet.
    """
    der = ssl_object.getpeercert(binary_form=True)
    if der is None:
        raise IdentityError("the peer has no certificate")
    certificate = x509.load_der_x509_certificate(der)
    if fleet_of(certificate) != fleet:
        raise IdentityError(
            f"the peer's certificate is of fleet '{fleet_of(certificate)}', not of '{fleet}'"
        )
    return certificate_peer_id(certificate)
