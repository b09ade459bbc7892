from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.coordinate import SAME_SECONDS, Coordinate
from runtime.balance.nearness import Outlook, Places
from runtime.balance.placement import best_start, choose_best_blocks
from runtime.balance.snapshot import EMPTY, Placed, Snapshot
from tests.support.balance import coordinates, snapshots

HERE, THERE = Coordinate(0, 0), Coordinate(0.05, 0)


def swarm(*servers: tuple[int, int, Coordinate | None]) -> Snapshot:
    return Snapshot.of(
        32,
        [
            Placed(f"s{number}", start, end, 1, coordinate=where)
            for number, (start, end, where) in enumerate(servers)
        ],
    )


def start(snapshot: Snapshot, where: Coordinate | None) -> int:
    return choose_best_blocks(snapshot, "new", 8, 1, where).start


def evenness(snapshot: Snapshot, first: int, num_blocks: int, throughput: float) -> float:
    """Return what joining takes off the sum that it makes smallest, from its description alone."""
    held = snapshot.block_throughput[first : first + num_blocks]
    scale = snapshot.block_throughput.mean() + throughput
    before, after = (np.maximum(one / scale, EMPTY) ** -12.0 for one in (held, held + throughput))
    return float((before - after).sum())


@given(
    snapshots(somewhere=True),
    st.integers(1, 4),
    st.floats(0.1, 10),
    coordinates(most_error=0.5),
)
def test_whatever_others_say_it_helps_as_much_as_measurements_tell(
    snapshot: Snapshot, num_blocks: int, throughput: float, where: Coordinate
) -> None:
    num_blocks = min(num_blocks, snapshot.total_blocks)
    outlook = Outlook(
        where, Places.of(snapshot.total_blocks, snapshot.servers), snapshot.lacking_copies
    )
    best = best_start(snapshot.strength, num_blocks, throughput)
    found = best_start(snapshot.strength, num_blocks, throughput, outlook)
    joined = [
        snapshot.with_server(Placed("new", start, start + num_blocks, throughput))
        for start in (best, found)
    ]
    assert len(joined[0].holes) == len(joined[1].holes)
    # Half of a tenth on each side of a step, to the power that evenness has.
    assert evenness(snapshot, found, num_blocks, throughput) >= (
        0.9**12 * evenness(snapshot, best, num_blocks, throughput) * (1 - 1e-6)
    )


@given(
    snapshots(somewhere=True),
    st.integers(1, 8),
    st.integers(1, 4),
    coordinates(most_error=0.5),
)
def test_copies_that_are_missing_count_before_places(
    snapshot: Snapshot, floor: int, num_blocks: int, where: Coordinate
) -> None:
    num_blocks = min(num_blocks, snapshot.total_blocks)
    swarm = replace(snapshot, replica_floor=floor)
    weakest = [
        sorted(swarm.replicas[one : one + num_blocks].clip(max=floor))
        for one in (
            choose_best_blocks(swarm, "new", num_blocks, 1.0, place).start
            for place in (None, where)
        )
    ]
    assert weakest[0] == weakest[1]


@given(snapshots(), st.integers(1, 4), st.none() | coordinates())
def test_where_nobody_says_where_it_is_the_leftmost_is_taken(
    snapshot: Snapshot, num_blocks: int, where: Coordinate | None
) -> None:
    num_blocks = min(num_blocks, snapshot.total_blocks)
    found = choose_best_blocks(snapshot, "new", num_blocks, 1, where)
    assert found == choose_best_blocks(snapshot, "new", num_blocks, 1)


@given(
    st.integers(1, 4),
    coordinates(most_error=0.5),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4), coordinates()), max_size=4),
)
def test_what_is_as_weak_stays_in_one_piece_or_in_whole_spans(
    num_blocks: int, where: Coordinate, others: list[tuple[int, int, Coordinate]]
) -> None:
    servers = [
        Placed(str(n), at, at + length, 1, coordinate=one)
        for n, (at, length, one) in enumerate(others)
    ]
    outlook = Outlook(where, Places.of(34, servers), np.zeros(34, np.int64))
    found = best_start(np.ones(34), num_blocks, 1, outlook)
    left, right = found, 34 - num_blocks - found
    if all(length == num_blocks for _, length, _ in others):
        assert 0 in (left % num_blocks, right % num_blocks)
    else:
        assert 0 in (left, right)


def test_a_newcomer_goes_beside_those_who_are_near() -> None:
    both = swarm((0, 8, HERE), (24, 32, THERE))
    assert (start(both, HERE), start(both, THERE)) == (8, 16)
    # Whoever is far from the only neighbour leaves the place beside it to somebody else.
    one = swarm((0, 8, HERE))
    assert (start(one, HERE), start(one, THERE)) == (8, 24)
    # Of several that have a block the nearest counts.
    crowd = swarm((0, 8, HERE), (0, 8, THERE), (24, 32, HERE), (24, 32, HERE))
    assert (start(crowd, HERE), start(crowd, THERE)) == (8, 8)


def test_two_sites_that_come_in_turn_are_passed_through_one_after_the_other() -> None:
    found = swarm()
    for number in range(8):
        where = (HERE, THERE)[number % 2]
        first = choose_best_blocks(found, str(number), 4, 1, where).start
        found = found.with_server(Placed(str(number), first, first + 4, 1, coordinate=where))
    order = [server.coordinate for server in sorted(found.servers, key=lambda one: one.start)]
    assert order == [HERE] * 4 + [THERE] * 4
    assert set(found.replicas) == {1}


def test_a_site_that_can_hold_the_whole_model_comes_to_do_so() -> None:
    # Whatever the order in which they come, and although all blocks have as many copies by then.
    for order in range(2**8):
        sites = [(HERE, THERE)[order >> number & 1] for number in range(8)]
        if sites.count(HERE) != 4:
            continue
        found = swarm()
        for number, where in enumerate(sites):
            first = choose_best_blocks(found, str(number), 8, 1, where).start
            found = found.with_server(Placed(str(number), first, first + 8, 1, coordinate=where))
        assert set(found.replicas) == {2}
        assert {one.start for one in found.servers if one.coordinate == HERE} == {0, 8, 16, 24}


def test_measurements_that_differ_by_little_are_the_same() -> None:
    def crowd(rate: float) -> Snapshot:
        return Snapshot.of(
            16, [Placed("a", 0, 8, rate, coordinate=HERE), Placed("b", 8, 16, 1, coordinate=THERE)]
        )

    # The left half is weaker by a hair, and the right one far away.
    assert [start(crowd(rate), HERE) for rate in (0.98, 0.8)] == [8, 0]
    assert start(crowd(0.98), None) == 0
    # Where both are as near, the hair decides.
    for rate, first in ((0.98, 0), (1.02, 8)):
        near = (replace(server, coordinate=THERE) for server in crowd(rate).servers)
        assert start(Snapshot.of(16, near), HERE) == first


@pytest.mark.parametrize(
    "other",
    [
        Coordinate(0.05, 0, 0, 0.9),
        Coordinate(SAME_SECONDS / 4, 0, 0, 0.1),
        None,
    ],
)
def test_those_who_do_not_know_their_place_and_those_beside_count_as_if_they_said_none(
    other: Coordinate | None,
) -> None:
    assert start(swarm((8, 16, HERE), (16, 24, other)), HERE) == 0
    assert start(swarm((0, 8, other), (24, 32, other)), HERE) == 8
