from hypothesis import given

from runtime.balance.snapshot import Placed, Snapshot
from tests.support.balance import snapshots


@given(snapshots())
def test_what_a_block_has_is_the_sum_over_those_that_hold_it(snapshot: Snapshot) -> None:
    for block in range(snapshot.total_blocks):
        holders = [s for s in snapshot.servers if s.start <= block < s.end]
        assert snapshot.replicas[block] == len(holders)
        total = sum(server.throughput for server in holders)
        assert abs(snapshot.block_throughput[block] - total) < 1e-9 * (1 + total)
        assert (block in snapshot.holes) == (not holders)


def test_it_does_not_depend_on_the_order_of_records() -> None:
    first, second = Placed("a", 0, 3, 0.1), Placed("b", 1, 4, 0.2)
    assert Snapshot.of(4, [first, second]) == Snapshot.of(4, [second, first])


def test_a_server_takes_the_place_of_its_older_self() -> None:
    snapshot = Snapshot.of(4, [Placed("a", 0, 2, 1)])
    moved = snapshot.with_server(Placed("a", 2, 4, 1))
    assert moved.holes == (0, 1)
    assert moved.servers == (Placed("a", 2, 4, 1),)
    assert moved.without("a").servers == ()
