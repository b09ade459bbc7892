import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.coordinate import Coordinate
from runtime.errors import WireError
from runtime.swarm.records import (
    Announced,
    Presence,
    Seating,
    ServerInfo,
    Speeds,
    decode,
    decode_presence,
    encode,
)
from tests.support.records import info


def test_a_record_survives_the_dht() -> None:
    assert decode(encode(info())) == info()
    balanced = info(
        seating=Seating(
            num_blocks=4, ticket=3, target=(1, 5), claim=7, fence=9, beat=2, reason="why"
        )
    )
    assert decode(encode(balanced)) == balanced
    for measured in (
        info(coordinate=Coordinate(-0.25, 0.5, 0.01, 0.1)),
        info(speeds=Speeds(8, 134.2, 1955.0)),
        info(state="gone"),
    ):
        assert decode(encode(measured)) == measured


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 17},
        {"end": 31},
        {"state": "perfect"},
        {"throughput": -1.0},
        {"throughput": 1e12},
        {"throughput": float("nan")},
        {"throughput": float("inf")},
        {"throughput": -float("inf")},
        {"kv_bytes": -1},
        {"kv_bytes": 2**61},
        {"addresses": ()},
        {"addresses": (Announced("h", 0, 1),)},
        {"peer_id": "x" * 300},
        {"stage": -1},
        {"seating": Seating(num_blocks=0)},
        {"seating": Seating(num_blocks=31)},
        {"seating": Seating(num_blocks=4, target=(4, 2))},
        {"seating": Seating(num_blocks=4, target=(28, 32))},
        {"seating": Seating(num_blocks=4, ticket=-1)},
        {"coordinate": Coordinate(0, 1.1)},
        {"coordinate": Coordinate(float("nan"), 0)},
        {"coordinate": Coordinate(0, 0, -0.001)},
        {"coordinate": Coordinate(0, 0, float("inf"))},
        {"coordinate": Coordinate(0, 0, 0, float("nan"))},
        {"speeds": Speeds(0, 1.0, 1.0)},
        {"speeds": Speeds(1, -1.0, 1.0)},
        {"speeds": Speeds(1, 1.0, 1e12)},
    ],
)
def test_a_record_that_contradicts_itself_is_none(fields: dict[str, object]) -> None:
    with pytest.raises(WireError, match="its record "):
        decode(encode(info(**fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"software": "1.0\x1b[2J"},
        {"run": "a\nstage ready"},
        {"addresses": (Announced("\u202e1.0.0.10", 1, 2),)},
        {"seating": Seating(num_blocks=4, reason="\r")},
    ],
)
def test_a_record_that_could_paint_a_terminal_is_none(fields: dict[str, object]) -> None:
    with pytest.raises(WireError, match="control characters"):
        decode(encode(info(**fields)))


def test_why_a_record_cannot_be_read_is_said() -> None:
    with pytest.raises(WireError, match=r"cannot be read.*throughput"):
        decode(encode(info(throughput=-1.0)))


def test_a_record_of_an_older_release_has_neither_reason_nor_run_nor_coordinate() -> None:
    old = msgspec.to_builtins(info(seating=Seating(num_blocks=4)))
    del old["run"], old["coordinate"]
    old["seating"] = old["seating"][:-1]
    assert decode(msgspec.msgpack.encode(old)) == info(seating=Seating(num_blocks=4))


def test_a_presence_survives_the_dht() -> None:
    known = Presence("QmA", "d" * 64, "1.0")
    assert decode_presence(encode(known)) == known
    with pytest.raises(WireError):
        decode_presence(encode(Presence("QmA", "d\x07", "1.0")))


@given(st.binary(max_size=300))
def test_noise_is_no_record(noise: bytes) -> None:
    for read in (decode, decode_presence):
        with pytest.raises(WireError) as found:
            read(noise)
        assert str(found.value).isprintable()


@given(
    st.builds(
        info,
        start=st.integers(0, 40),
        end=st.integers(0, 40),
        throughput=st.floats(),
        software=st.text(max_size=20),
        seating=st.none() | st.builds(Seating, st.integers(-1, 40), reason=st.text(max_size=20)),
    )
)
def test_what_can_be_read_is_what_was_said_and_within_the_model(said: ServerInfo) -> None:
    try:
        found = decode(encode(said))
    except WireError:
        return
    assert found == said
    assert 0 <= found.start <= found.end <= found.total_blocks
    assert 0 <= found.throughput < float("inf")
