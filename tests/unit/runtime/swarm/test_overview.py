from typing import Any

import pytest

from runtime.balance.coordinate import Coordinate
from runtime.spec.base import Span
from runtime.swarm.overview import Known, overview
from runtime.swarm.records import Seating, ServerInfo
from runtime.swarm.report import MOST_SERVERS, SwarmReport
from tests.support.records import info

BLOCKS = 12


def server(name: str, start: int, end: int, **fields: object) -> ServerInfo:
    return info(**{"peer_id": name, "start": start, "end": end, "total_blocks": BLOCKS} | fields)


def balanced(name: str, start: int, end: int, **fields: object) -> ServerInfo:
    return server(name, start, end, **{"seating": Seating(num_blocks=end - start)} | fields)


EMPTY = server("own", 0, 0, stage=0)


def reported(own: ServerInfo, *servers: ServerInfo, **fields: Any) -> SwarmReport:
    return overview(Known(at=1.0, own=own, servers=servers, **fields))


def test_a_whole_swarm() -> None:
    servers = [balanced("a", 0, 6, throughput=2.0), balanced("b", 6, 12, throughput=2.0)]
    found = reported(
        EMPTY,
        *servers,
        balanced("c", 6, 12, throughput=2.0),
        sessions={"b": 3},
        kv_bytes={"b": 1 << 20},
        observed={"c": 0.5},
    )
    assert found.complete
    assert found.missing == ()
    assert found.replicas == (1,) * 6 + (2,) * 6
    assert found.single_copies == (Span(start=0, end=6),)
    assert found.capacity.now == pytest.approx(2)
    # Eighteen places of blocks give twelve blocks three each for two, wherever the third one is.
    assert 2 <= found.capacity.best_known <= 3
    assert found.capacity.quality == found.capacity.now / found.capacity.best_known
    assert [one.peer_id for one in found.servers] == ["own", "a", "b", "c"]
    assert [one.sessions for one in found.servers] == [0, 0, 3, 0]
    assert [one.kv_taken_bytes for one in found.servers] == [0, 0, 1 << 20, 0]
    assert [one.believed for one in found.servers] == [12.5, 2.0, 2.0, 0.5]


def test_blocks_of_stage_0_count_as_served_and_those_of_another_client_side_do_not() -> None:
    own, other = server("own", 0, 4, stage=0), server("other", 4, 8, stage=0)
    found = reported(own, own, other, server("last", 8, 12))
    assert found.replicas == (1,) * 4 + (0,) * 4 + (1,) * 4
    assert [one.blocks for one in found.missing] == [Span(start=4, end=8)]
    assert not found.complete
    assert len(found.servers) == 3


def test_a_swarm_that_could_be_better_says_how_much() -> None:
    servers = [balanced(name, 0, 6, throughput=1.0) for name in "abc"]
    found = reported(EMPTY, *servers, balanced("d", 6, 12, throughput=1.0))
    assert found.capacity.now == pytest.approx(1)
    assert found.capacity.best_known == pytest.approx(2)
    assert found.capacity.quality == pytest.approx(0.5)


def test_who_moves_and_who_still_loads() -> None:
    moving = balanced("a", 0, 6, state="draining", seating=Seating(6, target=(6, 12), reason="why"))
    found = reported(EMPTY, moving, balanced("b", 0, 6, state="joining"))
    assert found.replicas == (0,) * BLOCKS
    assert found.servers[1].to == Span(start=6, end=12)
    assert found.servers[1].reason == "why"
    assert found.capacity.now == 0
    assert found.capacity.best_known > 0


def test_nobody_else_is_there() -> None:
    found = reported(EMPTY)
    assert found.capacity.quality == 1
    assert [one.blocks for one in found.missing] == [Span(start=0, end=BLOCKS)]


def test_a_report_is_bounded_and_survives_json() -> None:
    servers = [server(f"Qm{number:05}", 0, 6) for number in range(MOST_SERVERS + 5)]
    found = reported(EMPTY, *servers)
    assert len(found.servers) == MOST_SERVERS
    assert found.left_out == 6
    assert SwarmReport.model_validate_json(found.model_dump_json()) == found


def test_the_ways_of_a_route_are_told_as_far_as_they_are_known() -> None:
    here, there = Coordinate(0, 0, 0.0005), Coordinate(0.02, 0)
    servers = [
        server("a", 0, 4, coordinate=here),
        server("b", 4, 8, coordinate=there),
        server("c", 8, 12),
        server("d", 8, 12, state="joining"),
    ]
    found = reported(server("own", 0, 0, stage=0, coordinate=here), *servers)
    assert [(hop.peer_id, str(hop.blocks), hop.way_ms) for hop in found.route] == [
        ("a", "[0, 4)", 1.0),
        ("b", "[4, 8)", 20.5),
        ("c", "[8, 12)", None),
    ]
    assert found.way_back_ms is None
    # What stage 0 has measured itself counts first.
    measured = reported(EMPTY, *servers, latency={"a": 0.002, "c": 0.003})
    assert [hop.way_ms for hop in measured.route] == [2.0, 20.5, None]
    assert measured.way_back_ms == 3.0
    assert reported(EMPTY, *servers[:2]).route == ()
    assert reported(server("own", 0, BLOCKS, stage=0)).route == ()
