"""What a server tells the swarm about itself."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from runtime.balance.coordinate import Coordinate
from runtime.errors import WireError
from runtime.swarm.endpoint import Endpoint

MOST_TEXT: Final = 256
Text = Annotated[str, Meta(max_length=MOST_TEXT)]
_MOST_SAID = 200
State = Literal["reserving", "joining", "online", "draining", "leaving", "gone"]
"""Draining: it goes to other blocks. Leaving: it ends. Gone: it has ended, and is no server."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Block = Annotated[int, Meta(ge=0, le=2**16)]


class Announced(msgspec.Struct, frozen=True, array_like=True):
    """An address at which a server can be found."""

    host: Text
    dht_port: Annotated[int, Meta(ge=1, le=65535)]
    rpc_port: Annotated[int, Meta(ge=1, le=65535)]

    def __str__(self) -> str:
        """Return where it takes sessions, as `host:port`."""
        return str(Endpoint(self.host, self.rpc_port))


class Seating(msgspec.Struct, frozen=True, array_like=True):
    """A balanced server's part in the protocol; see `runtime.balance.seat.Seat`."""

    num_blocks: Annotated[int, Meta(ge=1, le=2**16)]
    ticket: Count = 0
    target: tuple[Block, Block] | None = None
    claim: Count | None = None
    fence: Count = 0
    beat: Count = 0
    reason: Text = ""
    moves: Literal["freely", "in need", "never"] = "freely"
    beside: bool = False
    in_line: bool = False


class Speeds(msgspec.Struct, frozen=True, array_like=True):
    """What a server measured at its start, beside its throughput.

    Attributes:
        batch: sequences of the largest batch that it has room for.
        decode: tokens per second of all sequences of such a batch together.
        prefill: tokens per second of one prompt.
    """

    batch: Annotated[int, Meta(ge=1, le=2**16)]
    decode: Annotated[float, Meta(ge=0, le=1e9)]
    prefill: Annotated[float, Meta(ge=0, le=1e9)]


class ServerInfo(msgspec.Struct, frozen=True):
    """One server's record.

    Attributes:
        peer_id: who it is; the record is signed by the key this stands for.
        stage: its place in the pipeline under fixed splits.
        start: the first block it serves.
        end: the block behind the last one it serves.
        state: whether it can take sessions.
        throughput: decode steps per second that one sequence gets from all its blocks
            (docs/decisions/0024-throughput-is-what-a-server-could-serve.md).
        kv_bytes: what the keys and values of all its sessions may take together.
        addresses: where it can be found, those of its own networks first, the public one last.
        model_digest: which model it serves.
        total_blocks: how many blocks that model has.
        software: its release.
        seating: of a server that chooses its blocks; None under fixed splits.
        speeds: what else was measured; None before that.
        run: which run of the server this is; two at a time are two processes with one identity.
        coordinate: where it is in the network; None: it does not say.
    """

    peer_id: Text
    stage: Annotated[int, Meta(ge=0, le=2**16)]
    start: Annotated[int, Meta(ge=0, le=2**16)]
    end: Annotated[int, Meta(ge=0, le=2**16)]
    state: State
    throughput: Annotated[float, Meta(ge=0, le=1e9)]
    kv_bytes: Annotated[int, Meta(ge=0, le=2**60)]
    addresses: Annotated[tuple[Announced, ...], Meta(min_length=1, max_length=16)]
    model_digest: Text
    total_blocks: Annotated[int, Meta(ge=1, le=2**16)]
    software: Text
    seating: Seating | None = None
    speeds: Speeds | None = None
    run: Text = ""
    coordinate: Coordinate | None = None


class Presence(msgspec.Struct, frozen=True):
    """What every server of a fleet says where all of them look, whatever model they serve."""

    peer_id: Text
    model_digest: Text
    software: Text


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ServerInfo)
_presence_decoder = msgspec.msgpack.Decoder(Presence)
# Everything that foreign bytes make a decoder raise.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(record: ServerInfo | Presence) -> bytes:
    """Return a record's bytes."""
    return _encoder.encode(record)


def decode(data: bytes) -> ServerInfo:
    """Return a record.

    Raises:
        WireError: these bytes are none, or contradict themselves.
    """
    try:
        info = _decoder.decode(data)
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    texts = [info.peer_id, info.model_digest, info.software, info.run]
    texts += [address.host for address in info.addresses]
    spans = [(info.start, info.end)]
    if info.seating is not None:
        texts.append(info.seating.reason)
        spans += [(0, info.seating.num_blocks), info.seating.target or (0, 0)]
    _check_printable(texts)
    for start, end in spans:
        if not start <= end <= info.total_blocks:
            raise WireError(f"its record has blocks [{start}, {end}) of {info.total_blocks}")
    return info


def decode_presence(data: bytes) -> Presence:
    """Return what a server says to the whole fleet.

    Raises:
        WireError: these bytes say nothing of that kind.
    """
    try:
        presence = _presence_decoder.decode(data)
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    _check_printable([presence.peer_id, presence.model_digest, presence.software])
    return presence


def _unreadable(error: Exception) -> WireError:
    # What a decoder says may quote the bytes.
    said = "".join(character if character.isprintable() else "?" for character in str(error))
    return WireError(f"its record cannot be read: {said[:_MOST_SAID]}")


def _check_printable(texts: Iterable[str]) -> None:
    """Refuse what could move a terminal's cursor, or forge a line of a log."""
    if not all(text.isprintable() for text in texts):
        raise WireError("its record has control characters in a text")
