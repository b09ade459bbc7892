"""The messages of the data plane, and nothing else: typed, bounded, no pickle.

A connection starts with a `Hello` from each side. Then stage 0 opens a session along the chain of
hops, sends one `Step` after another and gets `Tokens` back, until either side ends it:

    stage 0 ── Open ──► stage 1 ── Open ──► … last stage ── Opened ──► stage 0
    stage 0 ── Step ──► stage 1 ── Step ──► … last stage ── Tokens ──► stage 0
    stage 0 ── Close ─► stage 1 ── Close ─► …          any stage ── Failed ──► back along the chain

`Opened` and `Tokens` go straight from the last stage to stage 0 where it can be dialled, and back
along the chain where it cannot.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from runtime.engine.options import Sampling
from runtime.errors import WireError
from runtime.model.manifest import Dtype

MAX_HOPS = 256
MAX_BATCH = 256

SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=2**31)]
Text = Annotated[str, Meta(max_length=4096)]
PeerId = Annotated[str, Meta(min_length=1, max_length=128)]


class _Message(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Hello(_Message, frozen=True, tag="hello"):
    """Who speaks: the first message in both directions."""

    software: Text
    fleet: Text
    model_digest: Text
    peer_id: PeerId
    stage: Count


class Refused(_Message, frozen=True, tag="refused"):
    """Why the connection is closed."""

    message: Text


class Hop(msgspec.Struct, frozen=True, array_like=True):
    """A server of a route and the blocks `[start, end)` that it runs for this session.

    They may be any of those that it has: a route enters and leaves a span where it likes.
    """

    peer_id: PeerId
    start: Count
    end: Count


class Open(_Message, frozen=True, tag="open"):
    """Make room for a session.

    The hops of `route` are different servers and run every block behind stage 0's once, in order,
    to the end of the model. `hop` is the receiver's place in `route`. `padding` has an entry for
    each sequence of the batch: how many of its first positions are left padding.
    """

    session: SessionId
    route: Annotated[tuple[Hop, ...], Meta(min_length=1, max_length=MAX_HOPS)]
    hop: Count
    client: PeerId
    padding: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=MAX_BATCH)]
    max_length: Annotated[int, Meta(ge=1, le=2**31)]
    sampling: Sampling
    traced: bool = False


class Opened(_Message, frozen=True, tag="opened"):
    """Every hop has made room. `direct`: results come straight from the last stage."""

    session: SessionId
    direct: bool


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """What one hop did with one step, in nanoseconds of its own monotonic clock."""

    stage: int
    received: int
    started: int
    finished: int
    sent: int


class Step(_Message, frozen=True, tag="step"):
    """Hidden states `[batch, tokens, hidden]` for positions `[position, position + tokens)`."""

    session: SessionId
    position: Count
    tokens: Annotated[int, Meta(ge=1, le=2**31)]
    dtype: Dtype
    trace: tuple[Timing, ...] = ()


class Tokens(_Message, frozen=True, tag="tokens"):
    """The next token of each sequence, at `position`."""

    session: SessionId
    position: Count
    ids: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=MAX_BATCH)]
    trace: tuple[Timing, ...] = ()


class Close(_Message, frozen=True, tag="close"):
    """The session is over; free what it held."""

    session: SessionId


class Failed(_Message, frozen=True, tag="failed"):
    """The session cannot go on.

    `kind` is the name of an exception in `runtime.errors`. `stage` says it; `peer_id` is the server
    at fault: the same one, or one that it has lost.
    """

    session: SessionId
    kind: Text
    message: Text
    stage: Count
    peer_id: PeerId


class Ask(_Message, frozen=True, tag="ask"):
    """How are you? Answered by `Status`."""


class Status(_Message, frozen=True, tag="status"):
    """A server's own view of itself."""

    state: Text
    sessions: Count
    kv_used_bytes: Annotated[int, Meta(ge=0)]
    kv_total_bytes: Annotated[int, Meta(ge=0)]


Message = Hello | Refused | Open | Opened | Step | Tokens | Close | Failed | Ask | Status

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message's metadata."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Return the message that this metadata carries.

    Raises:
        WireError: it is no message of this protocol, or a value is out of its bounds.
    """
    try:
        message: Message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a message that cannot be read: {error}") from error
    return message
