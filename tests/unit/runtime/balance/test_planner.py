import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.balance.capacity import capacity
from runtime.balance.planner import best_known, fewer_stages
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


def test_fewer_stages_are_faster_where_hops_cost_more_than_computing() -> None:
    four = Snapshot.of(8, [Placed(f"s{n}", 2 * n, 2 * n + 2, 100) for n in range(4)])
    found = fewer_stages(four, hop_seconds=0.1)
    assert found is not None
    assert (found.hops, found.fewer_hops, found.num_blocks) == (4, 1, 8)
    # Eight blocks at 200 blocks a second, and five hops or two.
    assert found.seconds == pytest.approx(0.04 + 0.5)
    assert found.fewer_seconds == pytest.approx(0.04 + 0.2)
    assert found.reason.startswith("fewer stages would be faster: a route of 1 with 8 blocks")


def test_fewer_stages_are_no_faster_where_all_the_fast_ones_are_needed() -> None:
    # One alone would compute at the pace of the fastest; hops cost nothing.
    even = Snapshot.of(8, [Placed(f"s{n}", 2 * n, 2 * n + 2, 100) for n in range(4)])
    assert fewer_stages(even, hop_seconds=0) is None
    assert fewer_stages(Snapshot.of(8, [Placed("a", 0, 8, 1)]), hop_seconds=1) is None
    assert fewer_stages(Snapshot.of(8, [Placed("a", 0, 4, 1)]), hop_seconds=1) is None


def test_copies_that_are_missing_count_before_what_is_served() -> None:
    quick, slow = Placed("a", 0, 4, 100), [Placed(name, 0, 4, 1) for name in "bcd"]
    free = best_known(Snapshot.of(8, [quick, *slow]))
    assert sorted(free.replicas) == [1] * 4 + [3] * 4
    bound = best_known(Snapshot.of(8, [quick, *slow], 2))
    assert set(bound.replicas) == {2}
    assert capacity(bound) < capacity(free)
