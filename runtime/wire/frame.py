"""Frames: the unit of the data plane, a fixed header, msgpack metadata, raw tensor bytes.

    0      4         6        8            12          16
    | SGFL | version | unused | meta bytes | body bytes | meta … | body … |   big endian

The header never changes between protocol versions, so a server can always tell a peer which of the
two is older. Lengths are bounded before a byte behind the header is read.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from runtime.errors import VersionError, WireError

PROTOCOL = 2
"""The version of everything behind the header; another version is refused."""

MAX_META_BYTES = 1 << 20
HEADER_BYTES = 16

_MAGIC = b"SGFL"
_HEADER = struct.Struct(">4sHHII")


class Lengths(NamedTuple):
    """How many bytes follow a header."""

    meta: int
    body: int


def header(meta_bytes: int, body_bytes: int) -> bytes:
    """Return the header of a frame."""
    return _HEADER.pack(_MAGIC, PROTOCOL, 0, meta_bytes, body_bytes)


def lengths(data: bytes, max_body_bytes: int) -> Lengths:
    """Return what follows a header of `HEADER_BYTES` bytes.

    Raises:
        WireError: this is not a frame, or it is larger than this connection allows.
        VersionError: the peer speaks another protocol version.
    """
    magic, version, _, meta, body = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise WireError(f"not a stagefleet frame: it starts with {magic!r}")
    if version != PROTOCOL:
        raise VersionError(
            f"the peer speaks protocol {version}, this server protocol {PROTOCOL}: "
            f"the {'peer' if version < PROTOCOL else 'server'} is older",
            hint="deploy one release to all hosts of the fleet",
        )
    if meta > MAX_META_BYTES:
        raise WireError(f"metadata of {meta} bytes; at most {MAX_META_BYTES} are allowed")
    if body > max_body_bytes:
        raise WireError(f"a body of {body} bytes; at most {max_body_bytes} are allowed here")
    return Lengths(meta, body)


def frame(meta: bytes, body: bytes | bytearray | memoryview = b"") -> Sequence[bytes | memoryview]:
    """Return the parts of a frame, ready for one gathered write."""
    size = memoryview(body).nbytes
    head = header(len(meta), size) + meta
    return [head, memoryview(body)] if size else [head]
