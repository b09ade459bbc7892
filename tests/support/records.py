"""Records of servers, for tests of what is made of them."""

import msgspec

from runtime.swarm.records import Announced, ServerInfo


def info(**fields: object) -> ServerInfo:
    """Return a valid record with some fields changed."""
    found = ServerInfo(
        peer_id="QmA",
        stage=1,
        start=8,
        end=16,
        state="online",
        throughput=12.5,
        kv_bytes=1 << 30,
        addresses=(Announced("10.0.0.1", 8002, 8003),),
        model_digest="d",
        total_blocks=30,
        software="1.0",
    )
    return msgspec.structs.replace(found, **fields)
