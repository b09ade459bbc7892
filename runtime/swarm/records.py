"""What a server tells the swarm about itself."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(max_length=256)]
State = Literal["reserving", "joining", "online", "draining"]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Block = Annotated[int, Meta(ge=0, le=2**16)]


class Announced(msgspec.Struct, frozen=True, array_like=True):
    """An address at which a server can be found."""

    host: Text
    dht_port: Annotated[int, Meta(ge=1, le=65535)]
    rpc_port: Annotated[int, Meta(ge=1, le=65535)]


class Seating(msgspec.Struct, frozen=True, array_like=True):
    """A balanced server's part in the protocol; see `runtime.balance.seat.Seat`."""

    num_blocks: Annotated[int, Meta(ge=1, le=2**16)]
    ticket: Count = 0
    target: tuple[Block, Block] | None = None
    claim: Count | None = None
    fence: Count = 0
    beat: Count = 0


class ServerInfo(msgspec.Struct, frozen=True):
    """One server's record.

    Attributes:
        peer_id: who it is; the record is signed by the key this stands for.
        stage: its place in the pipeline under fixed splits.
        start: the first block it serves.
        end: the block behind the last one it serves.
        state: whether it can take sessions.
        throughput: decode steps per second that one sequence gets from it, measured at start.
        kv_bytes: what the keys and values of all its sessions may take together.
        addresses: where it can be found, those of its own networks first, the public one last.
        model_digest: which model it serves.
        total_blocks: how many blocks that model has.
        software: its release.
        seating: of a server that chooses its blocks; None under fixed splits.
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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ServerInfo)


def encode(info: ServerInfo) -> bytes:
    """Return a record's bytes."""
    return _encoder.encode(info)


def decode(data: bytes) -> ServerInfo | None:
    """Return the record, or None if these bytes are none or contradict themselves."""
    try:
        info = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    spans = [(info.start, info.end)]
    if info.seating is not None:
        spans += [(0, info.seating.num_blocks), info.seating.target or (0, 0)]
    return info if all(start <= end <= info.total_blocks for start, end in spans) else None
