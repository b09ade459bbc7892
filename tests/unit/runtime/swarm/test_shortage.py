import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.base import Span
from runtime.swarm.records import Seating, ServerInfo
from runtime.swarm.shortage import intervals, replicas, shortages
from tests.support.records import info

BLOCKS = 16
WHOLE = Span(start=0, end=BLOCKS)


def server(start: int, end: int, name: str = "", **fields: object) -> ServerInfo:
    name = name or f"Qm{start}-{end}"
    return info(**{"peer_id": name, "start": start, "end": end} | fields)


def balanced(start: int, end: int, name: str = "", **fields: object) -> ServerInfo:
    seating = Seating(num_blocks=end - start)
    return server(start, end, name, **{"seating": seating} | fields)


def said(*servers: ServerInfo) -> list[str]:
    return [str(shortage) for shortage in shortages(servers, WHOLE)]


def test_where_every_block_is_served_nothing_is_missing() -> None:
    assert said(server(0, 9), server(7, 16)) == []


def test_with_splits_the_stage_that_is_down_is_to_be_found() -> None:
    (line,) = said(server(0, 8))
    assert line.startswith("blocks 8 to 15: ")
    assert "./fleet service status" in line


def test_servers_that_can_leave_nothing_need_another_one() -> None:
    (line,) = said(balanced(0, 6), balanced(5, 11), balanced(10, 14))
    assert line == (
        "blocks 14 to 15: no server can leave what it has: start a server with num_blocks >= 2, "
        "or raise num_blocks of one (the largest has 6) by 2"
    )


def test_too_little_room_in_all_is_said() -> None:
    (line,) = said(balanced(0, 4), balanced(0, 4), server(4, 8))
    assert line == (
        "blocks 8 to 15: all servers together have room for 12 of 16 blocks: start servers with "
        "num_blocks of 4 in all, or raise num_blocks of those that run by as much"
    )


def test_servers_whose_blocks_others_have_too_will_move() -> None:
    (line,) = said(balanced(0, 8, "QmA"), balanced(0, 8, "QmB"), server(9, 16))
    assert line.startswith("block 8: wait: 2 of the servers can come here, others have what")


@pytest.mark.parametrize("beside", [False, True])
def test_who_loads_beside_comes_to_a_gap_next_to_what_it_alone_has(beside: bool) -> None:
    near = Seating(num_blocks=8, beside=beside)
    (line,) = said(server(0, 8), balanced(2, 10, seating=near))
    assert ("wait: 1 of the servers can come here" in line) == beside


def test_who_loads_beside_stays_where_the_gap_is_out_of_reach() -> None:
    far = Seating(num_blocks=4, beside=True)
    (line,) = said(balanced(0, 4, seating=far), balanced(4, 8, seating=far), server(7, 15))
    assert "no server can leave what it has" in line


@pytest.mark.parametrize(
    "coming",
    [
        balanced(8, 16, "QmNew", state="joining"),
        balanced(8, 16, "QmNew", state="reserving"),
        server(8, 16, "QmNew", state="joining"),
        balanced(0, 8, "QmNew", state="draining", seating=Seating(num_blocks=8, target=(8, 16))),
    ],
)
def test_who_is_about_to_serve_the_blocks_is_named(coming: ServerInfo) -> None:
    (line,) = said(balanced(0, 8), coming)
    assert line == "blocks 8 to 15: wait: QmNew will serve some or all"


def test_who_drains_serves_no_new_session() -> None:
    assert said(balanced(0, 16, state="draining"))


spans = st.tuples(st.integers(0, BLOCKS), st.integers(0, BLOCKS)).map(sorted)
swarms = st.lists(
    st.builds(
        lambda span, state, chooses: (balanced if chooses else server)(
            span[0], max(span[1], span[0] + 1), state=state
        ),
        spans,
        st.sampled_from(["online", "online", "joining", "draining", "reserving"]),
        st.booleans(),
    ),
    max_size=6,
)


@given(swarms, spans)
def test_holes_are_the_blocks_without_an_online_server(
    servers: list[ServerInfo], limits: list[int]
) -> None:
    span = Span(start=limits[0], end=limits[1])
    held = [
        sum(one.state == "online" and one.start <= block < one.end for one in servers)
        for block in range(span.start, span.end)
    ]
    assert list(replicas(servers, span)) == held
    found = shortages(servers, span)
    assert [block for one in found for block in range(one.blocks.start, one.blocks.end)] == [
        block for block, count in enumerate(held, span.start) if count == 0
    ]
    assert all(one.help for one in found)


@given(st.sets(st.integers(0, 40)))
def test_blocks_become_as_few_spans_as_possible(blocks: set[int]) -> None:
    found = list(intervals(sorted(blocks)))
    assert {block for span in found for block in range(span.start, span.end)} == blocks
    assert all(one.end < other.start for one, other in itertools.pairwise(found))
