"""How many blocks fit: arithmetic over manifests and memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ConfigError
from runtime.model.manifest import (
    CONFIG,
    EMBEDDINGS,
    HEAD,
    Manifest,
    ModelFile,
    Origin,
    block_file,
)
from runtime.model.room import Room, blocks_bytes, missing_bytes, most_blocks, require_room

MIB = 1 << 20
ZEROS = "0" * 64


def manifest(blocks: tuple[int, ...] = (100,) * 32, *, tied: bool = False) -> Manifest:
    """Return a model's manifest, its blocks and a head of 50 and embeddings of 40 in MiB."""
    names = (CONFIG, EMBEDDINGS, HEAD, *map(block_file, range(len(blocks))))
    return Manifest(
        name="m",
        origin=Origin(kind="gguf", dtype="bfloat16", fingerprint=ZEROS),
        model_type="llama",
        total_blocks=len(blocks),
        hidden_size=8,
        vocab_size=8,
        max_length=8,
        dtype="bfloat16",
        tied=tied,
        block_bytes=tuple(size * MIB for size in blocks),
        embeddings_bytes=40 * MIB,
        head_bytes=50 * MIB,
        files=tuple(ModelFile(name=name, bytes=0, sha256=ZEROS) for name in names),
    )


def room(free: int, kv: int = 1024, runtime: int = 512) -> Room:
    return Room(free * MIB, kv * MIB, runtime * MIB)


def test_a_server_has_memory_for_whichever_blocks_the_swarm_needs() -> None:
    assert blocks_bytes(manifest((1, 5, 3)), 2) == (5 + 3 + 50) * MIB
    assert blocks_bytes(manifest((1, 5, 3), tied=True), 2) == (5 + 3 + 50 + 40) * MIB
    assert blocks_bytes(manifest((1, 5, 3)), 2, "float16") == (5 + 3 + 50) * MIB
    assert blocks_bytes(manifest((1, 5, 3)), 2, "float32") == 2 * (5 + 3 + 50) * MIB


@pytest.mark.parametrize(
    ("free", "blocks"), [(1686, 1), (1785, 1), (1786, 2), (4785, 31), (4786, 32), (99999, 32)]
)
def test_who_has_more_memory_takes_more_blocks(free: int, blocks: int) -> None:
    assert most_blocks(manifest(), room(free)) == blocks


def test_too_little_for_one_block_is_refused_with_numbers() -> None:
    with pytest.raises(ConfigError) as caught:
        most_blocks(manifest(), room(1685))
    assert str(caught.value).startswith(
        "1 block needs 1686 MiB of memory: 150 for the blocks and the head, 1024 for keys and "
        "values (kv_cache_mib), 512 for the server; 1685 MiB are free, 1 are missing"
    )
    assert "fewer" not in caught.value.hint


def test_more_blocks_than_memory_are_refused_with_numbers_and_what_helps() -> None:
    require_room(manifest(), 8, room(2386))
    with pytest.raises(ConfigError, match="num_blocks 8 needs 2386 MiB") as caught:
        require_room(manifest(), 8, room(2000))
    assert "386 are missing" in str(caught.value)
    assert "fewer num_blocks (or auto)" in caught.value.hint


sizes = st.lists(st.integers(1, 500), min_size=1, max_size=20).map(tuple)


@given(sizes, st.integers(0, 20_000), st.integers(0, 4096))
def test_what_is_chosen_fits_and_one_more_would_not(
    blocks: tuple[int, ...], free: int, kv: int
) -> None:
    model, memory = manifest(blocks), room(free, kv)
    try:
        count = most_blocks(model, memory)
    except ConfigError:
        assert missing_bytes(model, 1, memory) > 0
        return
    assert missing_bytes(model, count, memory) <= 0
    assert count == len(blocks) or missing_bytes(model, count + 1, memory) > 0
