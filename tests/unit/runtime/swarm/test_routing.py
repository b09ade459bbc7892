from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RouteError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.routing import route
from tests.support.records import info

BLOCKS = 12


def server(start: int, end: int, **fields: object) -> ServerInfo:
    return info(peer_id=f"Qm{start}-{end}", start=start, end=end, total_blocks=BLOCKS, **fields)


spans = st.tuples(st.integers(0, BLOCKS), st.integers(0, BLOCKS)).filter(lambda s: s[0] < s[1])
swarms = st.lists(
    st.builds(
        lambda span, state, throughput, name: info(
            peer_id=name,
            start=span[0],
            end=span[1],
            total_blocks=BLOCKS,
            state=state,
            throughput=throughput,
        ),
        spans,
        st.sampled_from(["online", "joining", "draining"]),
        st.floats(0, 100),
        st.text("abc", min_size=1, max_size=3),
    ),
    max_size=10,
)


def covers(servers: list[ServerInfo], start: int) -> bool:
    """Return whether online servers tile the blocks from `start`, by trying everything."""
    return start == BLOCKS or any(
        covers(servers, server.end)
        for server in servers
        if server.state == "online" and server.start == start
    )


@given(swarms, st.integers(0, BLOCKS - 1))
def test_a_route_is_found_exactly_if_there_is_one_and_runs_each_block_once(
    servers: list[ServerInfo], start: int
) -> None:
    span = Span(start=start, end=BLOCKS)
    try:
        found = route(servers, span)
    except RouteError:
        assert not covers(servers, start)
        return
    blocks = [block for hop in found for block in range(hop.start, hop.end)]
    assert blocks == list(range(start, BLOCKS))
    assert all(hop.state == "online" for hop in found)


@given(swarms, st.randoms())
def test_the_order_of_the_records_does_not_matter(
    servers: list[ServerInfo], random: Random
) -> None:
    span = Span(start=0, end=BLOCKS)
    shuffled = random.sample(servers, len(servers))
    if covers(servers, 0):
        assert [hop.start for hop in route(servers, span)] == [
            hop.start for hop in route(shuffled, span)
        ]


def test_of_equal_spans_the_faster_server_is_taken() -> None:
    slow = server(0, BLOCKS, throughput=1.0)
    fast = info(peer_id="QmFast", start=0, end=BLOCKS, total_blocks=BLOCKS, throughput=2.0)
    assert route([slow, fast], Span(start=0, end=BLOCKS)) == (fast,)


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([], "nobody serves [0, 12)"),
        ([server(0, 4), server(8, 12)], "nobody serves [4, 8)"),
        ([server(2, 4), server(6, 11)], "nobody serves [0, 2), [4, 6), [11, 12)"),
        ([server(0, 7), server(5, 12)], "overlap without tiling"),
        ([server(0, 12, state="joining")], "nobody serves [0, 12)"),
    ],
)
def test_what_is_missing_is_said(servers: list[ServerInfo], said: str) -> None:
    with pytest.raises(RouteError) as found:
        route(servers, Span(start=0, end=BLOCKS))
    assert said in str(found.value)


def test_nothing_to_run_needs_nobody() -> None:
    assert route([], Span(start=BLOCKS, end=BLOCKS)) == ()
