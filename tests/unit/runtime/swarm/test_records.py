import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.swarm.records import Announced, Seating, decode, encode
from tests.support.records import info


def test_a_record_survives_the_dht() -> None:
    assert decode(encode(info())) == info()
    balanced = info(
        seating=Seating(num_blocks=4, ticket=3, target=(1, 5), claim=7, fence=9, beat=2)
    )
    assert decode(encode(balanced)) == balanced


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 17},
        {"end": 31},
        {"state": "perfect"},
        {"throughput": -1.0},
        {"throughput": 1e12},
        {"throughput": float("nan")},
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
    ],
)
def test_a_record_that_contradicts_itself_is_none(fields: dict[str, object]) -> None:
    assert decode(encode(info(**fields))) is None


@given(st.binary(max_size=300))
def test_noise_is_no_record(noise: bytes) -> None:
    assert decode(noise) is None
