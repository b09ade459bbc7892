"""How many blocks of a model fit into memory: pure arithmetic over its manifest."""

from dataclasses import dataclass
from typing import Final

from runtime.errors import ConfigError
from runtime.model.manifest import Dtype, Manifest, WantedDtype

RUNTIME_BYTES: Final = 512 << 20
"""Python, torch and the rest of a server, measured (docs/how-to/import-a-model.md)."""

_MIB = 1 << 20
_ITEM_BYTES: Final[dict[Dtype, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Room:
    """What a server's memory is there for, in bytes.

    Attributes:
        free: what the server may still take.
        kv: what all sessions' keys and values may take together.
        runtime: what the server itself will still take.
    """

    free: int
    kv: int
    runtime: int = RUNTIME_BYTES


def blocks_bytes(manifest: Manifest, num_blocks: int, dtype: WantedDtype = "auto") -> int:
    """Return what so many blocks take at most, whichever they are, with the head of the last one.

    Args:
        manifest: of the model.
        num_blocks: how many; at most the model's.
        dtype: the number format that the server computes in; auto: as stored.
    """
    largest = sum(sorted(manifest.block_bytes)[-num_blocks:])
    stored = largest + manifest.head_bytes + (manifest.embeddings_bytes if manifest.tied else 0)
    wanted = manifest.dtype if dtype == "auto" else dtype
    return stored * _ITEM_BYTES[wanted] // _ITEM_BYTES[manifest.dtype]


def most_blocks(manifest: Manifest, room: Room, dtype: WantedDtype = "auto") -> int:
    """Return how many blocks a server has memory for, at most the model's.

    Raises:
        ConfigError: there is no memory for a single one; how much is needed and missing.
    """
    require_room(manifest, 1, room, dtype)
    return max(
        count
        for count in range(1, manifest.total_blocks + 1)
        if missing_bytes(manifest, count, room, dtype) <= 0
    )


def missing_bytes(
    manifest: Manifest, num_blocks: int, room: Room, dtype: WantedDtype = "auto"
) -> int:
    """Return how much memory is missing for so many blocks; negative if some is left."""
    return blocks_bytes(manifest, num_blocks, dtype) + room.kv + room.runtime - room.free


def require_room(
    manifest: Manifest, num_blocks: int, room: Room, dtype: WantedDtype = "auto"
) -> None:
    """Refuse more blocks than there is memory for.

    Raises:
        ConfigError: how much is needed and missing, and what would help.
    """
    missing = missing_bytes(manifest, num_blocks, room, dtype)
    if missing <= 0:
        return
    weights = blocks_bytes(manifest, num_blocks, dtype)
    needed = weights + room.kv + room.runtime
    blocks = "1 block needs" if num_blocks == 1 else f"num_blocks {num_blocks} needs"
    fewer = "" if num_blocks == 1 else "fewer num_blocks (or auto), "
    raise ConfigError(
        f"{blocks} {_mib(needed)} MiB of memory: {_mib(weights)} for the blocks and the head, "
        f"{_mib(room.kv)} for keys and values (kv_cache_mib), {_mib(room.runtime)} for the server; "
        f"{room.free // _MIB} MiB are free, {_mib(missing)} are missing",
        hint=f"{fewer}a smaller kv_cache_mib, a smaller dtype or a host with more memory helps",
    )


def _mib(size: int) -> int:
    return -(-size // _MIB)
