"""Who may take part in the DHT, and whose word counts: members of the fleet only.

Two gates, both hivemind's own hooks. Every request and answer between DHT nodes carries the
sender's certificate and signature, so that nobody else can read or write at all. And every record
carries its author's, and must stand under the author's own peer id, so that no member can speak for
another, not even from a cache.
"""

from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.proto.auth_pb2 import AccessToken
from hivemind.utils import MSGPackSerializer, get_dht_time
from hivemind.utils.auth import TokenAuthorizerBase
from hivemind.utils.crypto import RSAPrivateKey

from runtime.swarm.identity import certificate_peer_id
from runtime.swarm.membership import Membership

LONGEST_SECONDS: Final = 7200.0
"""No record lives longer: not even its author could replace it once its clock is mended.

The longest `announce_period_seconds` leaves room for what lives longest, the roll's records.
"""

_PADDING = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


class _MemberKey(RSAPrivateKey):
    """The member's own key in hivemind's clothes; hivemind would make a new one."""

    def __init__(self, membership: Membership) -> None:
        self._private_key = membership.key


class MemberAuthorizer(TokenAuthorizerBase):
    """hivemind's authorisation of requests, with the certificate as the token."""

    def __init__(self, membership: Membership) -> None:
        """Speak as this member."""
        super().__init__(_MemberKey(membership))
        self._membership = membership

    async def get_token(self) -> AccessToken:
        """Return this server's own token."""
        return AccessToken(
            public_key=self.local_public_key.to_bytes(), signature=self._membership.certificate
        )

    def is_token_valid(self, access_token: AccessToken) -> bool:
        """Return whether a token is a member's certificate and names that member's key."""
        key = self._membership.member(access_token.signature)
        if key is None:
            return False
        named = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return bool(named == access_token.public_key)

    def does_token_need_refreshing(self, access_token: AccessToken) -> bool:  # noqa: ARG002 - hivemind's
        """Return False: a renewed certificate comes with a restart."""
        return False


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    value: bytes
    certificate: bytes
    signature: bytes


class MemberRecords(RecordValidatorBase):
    """Takes records only from members, and only under their own peer id."""

    def __init__(self, membership: Membership) -> None:
        """Sign as this member."""
        self._membership = membership

    def sign_value(self, record: DHTRecord) -> bytes:
        """Return the value with this server's certificate and signature around it."""
        signature = self._membership.key.sign(
            _content(record, record.value), _PADDING, hashes.SHA256()
        )
        return msgspec.msgpack.encode(
            _Signed(record.value, self._membership.certificate, signature)
        )

    def validate(self, record: DHTRecord) -> bool:
        """Return whether the record is a member's own, and does not want to stand for ever."""
        if not record.expiration_time <= get_dht_time() + LONGEST_SECONDS:
            return False
        try:
            signed = msgspec.msgpack.decode(record.value, type=_Signed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        key = self._membership.member(signed.certificate)
        if key is None:
            return False
        author = certificate_peer_id(x509.load_der_x509_certificate(signed.certificate))
        if record.subkey != MSGPackSerializer.dumps(author):
            return False
        try:
            content = _content(record, signed.value)
            key.verify(signed.signature, content, _PADDING, hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def strip_value(self, record: DHTRecord) -> bytes:
        """Return the value alone."""
        return msgspec.msgpack.decode(record.value, type=_Signed).value

    def merge_with(self, other: RecordValidatorBase) -> bool:
        """Return whether another validator is already covered by this one."""
        return isinstance(other, MemberRecords)


def _content(record: DHTRecord, value: bytes) -> bytes:
    """Return what is signed: everything that makes the record, unambiguously."""
    return msgspec.msgpack.encode((record.key, record.subkey, value, record.expiration_time))
