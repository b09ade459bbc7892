import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.options import Sampling
from runtime.errors import WireError
from runtime.wire.messages import (
    Close,
    Failed,
    Hello,
    Hop,
    Message,
    Open,
    Opened,
    Step,
    Timing,
    Tokens,
    decode,
    encode,
)

KEY = bytes(range(16))
counts = st.integers(0, 2**31)
hops = st.builds(Hop, st.text(min_size=1, max_size=60), counts, counts)
timings = st.lists(st.builds(Timing, *[st.integers(0, 2**60)] * 5), max_size=3).map(tuple)
messages = st.one_of(
    st.builds(Hello, *[st.text(max_size=60)] * 3, st.text(min_size=1), counts),
    st.builds(
        Open,
        session=st.just(KEY),
        route=st.lists(hops, min_size=1, max_size=4).map(tuple),
        hop=counts,
        client=st.text(min_size=1, max_size=60),
        padding=st.lists(counts, min_size=1, max_size=4).map(tuple),
        max_length=st.integers(1, 2**31),
        sampling=st.builds(Sampling, temperature=st.floats(0, 1000), seed=counts),
        traced=st.booleans(),
    ),
    st.builds(Opened, st.just(KEY), st.booleans()),
    st.builds(Step, st.just(KEY), counts, st.integers(1, 9), st.just("bfloat16"), timings),
    st.builds(
        Tokens, st.just(KEY), counts, st.lists(counts, min_size=1, max_size=9).map(tuple), timings
    ),
    st.builds(Close, st.just(KEY)),
    st.builds(
        Failed,
        st.just(KEY),
        st.text(max_size=60),
        st.text(max_size=60),
        counts,
        st.text(min_size=1, max_size=60),
    ),
)


@given(messages)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


@given(messages, st.data())
def test_a_damaged_message_is_refused_or_still_within_its_bounds(
    message: Message, data: st.DataObject
) -> None:
    damaged = bytearray(encode(message))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(damaged))
    except WireError:
        return
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    "fields",
    [
        {"session": b"short"},
        {"tokens": 0},
        {"tokens": 2**40},
        {"position": -1},
        {"dtype": "int64"},
        {"dtype": "float64"},
        {"unknown": 1},
        {"trace": [[1, 2]]},
    ],
)
def test_a_step_out_of_bounds_is_refused(fields: dict[str, object]) -> None:
    good = {"type": "step", "session": KEY, "position": 0, "tokens": 1, "dtype": "float32"}
    assert decode(msgspec.msgpack.encode(good)) == Step(KEY, 0, 1, "float32")
    with pytest.raises(WireError):
        decode(msgspec.msgpack.encode(good | fields))


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), 1e9])
def test_sampling_out_of_bounds_is_refused(temperature: float) -> None:
    message = Open(KEY, (Hop("a", 0, 1),), 0, "b", (0,), 5, Sampling(temperature=temperature))
    with pytest.raises(WireError):
        decode(encode(message))
