"""The key of one server: made on its host, never leaving it.

One RSA key is everything a server proves itself with: libp2p derives the peer id from it, it signs
the server's DHT records, and the fleet's authority certifies it for TLS. So a certificate's peer id
can be computed from the certificate itself, and no two of the three can disagree.
"""

import hashlib
from datetime import datetime
from pathlib import Path

import base58
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runtime.errors import IdentityError

# libp2p's files and peer ids for RSA keys: https://github.com/libp2p/specs/blob/master/peer-ids
_KEY_BITS = 2048
_LIBP2P_RSA = b"\x08\x00"

PRIVATE_KEY = "key.pem"
LIBP2P_KEY = "libp2p.key"
CERTIFICATE = "certificate.pem"
AUTHORITY = "authority.pem"


def create_identity(directory: Path) -> bool:
    """Make the server's key in `directory` unless it is there; return whether it was made.

    The key is kept twice: as PEM for TLS and in libp2p's own form for the DHT's daemon.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (directory / PRIVATE_KEY).exists() and (directory / LIBP2P_KEY).exists():
        return False
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write_private(directory / LIBP2P_KEY, _LIBP2P_RSA + _field(2, der))
    _write_private(directory / PRIVATE_KEY, pem)
    return True


def private_key(directory: Path) -> rsa.RSAPrivateKey:
    """Return the server's key.

    Raises:
        IdentityError: there is none, or it cannot be read.
    """
    path = directory / PRIVATE_KEY
    try:
        # Checking an RSA key takes longer than everything else here, and this one was made here.
        key = serialization.load_pem_private_key(
            path.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except FileNotFoundError:
        raise IdentityError(
            f"there is no key at {path}", hint=f"make one: stagefleet identity create {directory}"
        ) from None
    except (OSError, ValueError) as error:
        raise IdentityError(f"the key at {path} cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise IdentityError(f"the key at {path} is not an RSA key")
    return key


def peer_id(key: rsa.RSAPublicKey) -> str:
    """Return the libp2p peer id of a public key: the base58 multihash of its protobuf."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashlib.sha256(_LIBP2P_RSA + _field(2, der)).digest()
    text: bytes = base58.b58encode(b"\x12\x20" + digest)
    return text.decode()


def signing_request(key: rsa.RSAPrivateKey) -> str:
    """Return a PEM request for a certificate; it carries the public key and nothing else."""
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def read_certificate(path: Path) -> x509.Certificate:
    """Return a PEM certificate.

    Raises:
        IdentityError: there is none, or it cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise IdentityError(
            f"there is no certificate at {path}",
            hint="deploy the fleet, or sign a request: stagefleet authority sign --help",
        ) from None
    except (OSError, ValueError) as error:
        raise IdentityError(f"the certificate at {path} cannot be read: {error}") from error


def certificate_peer_id(certificate: x509.Certificate) -> str:
    """Return the peer id that a certificate's own key stands for.

    Raises:
        IdentityError: the key is not an RSA key.
    """
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise IdentityError("the certificate's key is not an RSA key, so it has no peer id")
    return peer_id(key)


def expiry(certificate: x509.Certificate) -> datetime:
    """Return when a certificate ends, with its time zone."""
    return certificate.not_valid_after_utc


def _write_private(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
