import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.balance.capacity import capacity
from runtime.balance.coordinate import Coordinate
from runtime.balance.planner import best_known, fastest_route, fewer_stages
from runtime.balance.snapshot import Placed, Snapshot
from tests.support.balance import snapshots


def best_of_all(snapshot: Snapshot) -> float:
    """Return the capacity of the very best placement: all are tried."""
    places = [
        [
            replace(server, start=start, end=start + server.num_blocks)
            for start in range(snapshot.total_blocks - server.num_blocks + 1)
        ]
        for server in snapshot.servers
    ]
    return max(
        (
            capacity(Snapshot(snapshot.total_blocks, servers))
            for servers in itertools.product(*places)
        ),
        default=0.0,
    )


SMALL = st.lists(st.tuples(st.integers(1, 4), st.floats(0.2, 5)), min_size=1, max_size=4).map(
    lambda servers: Snapshot.of(
        6, [Placed(f"s{n}", 0, blocks, rate) for n, (blocks, rate) in enumerate(servers)]
    )
)


@settings(max_examples=25, deadline=None)
@given(SMALL)
def test_it_covers_where_that_is_possible_and_is_near_the_very_best(snapshot: Snapshot) -> None:
    found, best = capacity(best_known(snapshot)), best_of_all(snapshot)
    assert found <= best * (1 + 1e-6)
    assert (found > 0) == (best > 0)
    # No guarantee is known; this is what hundreds of small swarms show, with room.
    assert found >= 0.75 * best


@settings(max_examples=25, deadline=None)
@given(snapshots())
def test_it_is_never_worse_than_what_is_there_and_always_the_same(snapshot: Snapshot) -> None:
    found = best_known(snapshot)
    assert found == best_known(Snapshot.of(snapshot.total_blocks, reversed(snapshot.servers)))
    assert capacity(found) >= capacity(snapshot)
    assert capacity(found) <= snapshot.works.sum() / snapshot.total_blocks * (1 + 1e-6)
    assert [(s.peer_id, s.num_blocks) for s in found.servers] == [
        (s.peer_id, s.num_blocks) for s in snapshot.servers
    ]


def test_servers_with_fixed_splits_stay() -> None:
    fixed = Placed("a", 0, 4, 1, fixed=True)
    found = best_known(Snapshot.of(8, [fixed, Placed("b", 0, 4, 1)]))
    assert found.servers == (fixed, Placed("b", 4, 8, 1))


def four(access_seconds: float | None, throughput: float = 100) -> Snapshot:
    """Return a pipeline of four whose ways take twice as long as one of them to the network."""
    where = None if access_seconds is None else Coordinate(0, 0, access_seconds)
    servers = (Placed(f"s{n}", 2 * n, 2 * n + 2, throughput, coordinate=where) for n in range(4))
    return Snapshot.of(8, servers)


def test_fewer_stages_are_faster_where_hops_cost_more_than_computing() -> None:
    found = fewer_stages(four(0.0496), Coordinate(0, 0, 0.0496))
    assert found is not None
    assert (found.hops, found.fewer_hops, found.num_blocks) == (4, 1, 8)
    # Eight blocks at 200 blocks a second, and five hops or two.
    assert found.seconds == pytest.approx(0.04 + 0.5)
    assert found.fewer_seconds == pytest.approx(0.04 + 0.2)
    assert found.reason.startswith("fewer stages would be faster: a route of 1 with 8 blocks")


def test_fewer_stages_are_no_faster_where_hops_cost_nothing_or_there_are_none_to_save() -> None:
    # One alone would compute at the pace of the fastest.
    assert fewer_stages(four(None, throughput=1)) is None
    assert fewer_stages(four(0.0496, throughput=0.1), Coordinate(0, 0, 0.0496)) is None
    assert fewer_stages(Snapshot.of(8, [Placed("a", 0, 8, 100)])) is None
    assert fewer_stages(Snapshot.of(8, [Placed("a", 0, 4, 100)])) is None


def test_the_fewer_ones_are_those_that_are_near_where_the_fastest_are_not() -> None:
    here, there = Coordinate(0, 0), Coordinate(0.1, 0)
    far = [Placed(f"f{n}", 2 * n, 2 * n + 2, 110, coordinate=there) for n in range(3)]
    near = [Placed("n", 6, 8, 100, coordinate=here)]
    found = fewer_stages(Snapshot.of(8, [*far, *near]), here)
    assert found is not None
    # Eight blocks at 200 blocks a second on the near one, and two hops of nearly nothing.
    assert (found.fewer_hops, found.num_blocks) == (1, 8)
    assert found.fewer_seconds == pytest.approx(0.04 + 2 * 0.0008)
    assert found.seconds == pytest.approx(6 / 220 + 2 / 200 + 5 * 0.0008 + 2 * 0.1)


def route_of(servers: list[Placed], client: Coordinate) -> tuple[float, int]:
    found = fastest_route(Snapshot.of(8, servers), client)
    assert found is not None
    return found


def test_the_fastest_route_goes_through_near_servers() -> None:
    here, there = Coordinate(0, 0), Coordinate(0.05, 0)
    placed = [
        Placed(f"{name}{n}", 2 * n, 2 * n + 2, rate, coordinate=where)
        for name, rate, where in (("near", 100, here), ("far", 110, there))
        for n in range(4)
    ]
    assert route_of(placed, here) == pytest.approx((0.04 + 5 * 0.0008, 4))
    assert fastest_route(Snapshot.of(8, placed[1:4]), here) is None
    # Without places all ways are a local network's, and the faster ones are taken.
    blind = [replace(server, coordinate=None) for server in placed]
    seconds = 8 / 220 + 5 * (0.0008 + 0.0002)
    assert route_of(blind, here) == pytest.approx((seconds, 4))


def test_copies_that_are_missing_count_before_what_is_served() -> None:
    quick, slow = Placed("a", 0, 4, 100), [Placed(name, 0, 4, 1) for name in "bcd"]
    free = best_known(Snapshot.of(8, [quick, *slow]))
    assert sorted(free.replicas) == [1] * 4 + [3] * 4
    bound = best_known(Snapshot.of(8, [quick, *slow], 2))
    assert set(bound.replicas) == {2}
    assert capacity(bound) < capacity(free)
