import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import linprog

from runtime.balance.capacity import capacities, capacity, enclosed
from runtime.balance.snapshot import Placed, Snapshot
from tests.support.balance import placed, snapshots


def largest_flow(snapshot: Snapshot) -> float:
    """Return the capacity by a general solver: a rate z that every block gets."""
    shares = [
        (server, block)
        for server in range(len(snapshot.servers))
        for block in range(snapshot.servers[server].start, snapshot.servers[server].end)
    ]
    blocks, servers = snapshot.total_blocks, len(snapshot.servers)
    limits = np.zeros((servers + blocks, len(shares) + 1))
    for column, (server, block) in enumerate(shares):
        limits[server, column] = 1
        limits[servers + block, column] = -1
    limits[servers:, -1] = 1
    most = np.concatenate([snapshot.works, np.zeros(blocks)])
    goal = np.zeros(len(shares) + 1)
    goal[-1] = -1
    return float(-linprog(goal, A_ub=limits, b_ub=most).fun)


@given(snapshots())
def test_it_is_the_largest_flow(snapshot: Snapshot) -> None:
    assert capacity(snapshot) == pytest.approx(largest_flow(snapshot), rel=1e-6, abs=1e-6)


@given(snapshots())
def test_it_lies_between_the_smallest_throughput_and_the_share_of_all_work(
    snapshot: Snapshot,
) -> None:
    found = capacity(snapshot)
    assert snapshot.block_throughput.min() * (1 - 1e-6) <= found
    assert found <= snapshot.works.sum() / snapshot.total_blocks * (1 + 1e-6)
    assert (found == 0) == bool(snapshot.holes)


@given(snapshots(), placed())
def test_a_further_server_never_takes_any_away(snapshot: Snapshot, server: Placed) -> None:
    if server.end <= snapshot.total_blocks:
        more = snapshot.with_server(server)
        assert capacity(more) >= capacity(snapshot.without(server.peer_id)) * (1 - 1e-6)


def test_work_flows_to_where_it_is_missing() -> None:
    # Both hold blocks 2 and 3; each can leave them to the other and spend itself on its own.
    snapshot = Snapshot.of(6, [Placed("a", 0, 4, 1.5), Placed("b", 2, 6, 1.5)])
    assert snapshot.block_throughput.min() == 1.5
    assert capacity(snapshot) == pytest.approx(2)


def test_several_at_once_are_as_each_alone() -> None:
    some = [
        Snapshot.of(5, [Placed("a", 0, 3, 2), Placed("b", 3, 5, 1)]),
        Snapshot.of(5, []),
        Snapshot.of(5, [Placed("a", 0, 5, 7)]),
    ]
    together = capacities(np.stack([enclosed(each) for each in some]))
    assert together.tolist() == pytest.approx([capacity(each) for each in some])
    assert together.tolist() == pytest.approx([1, 0, 7])
