from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.capacity import capacity
from runtime.balance.placement import best_move, choose_best_blocks
from runtime.balance.snapshot import Placed, Snapshot
from runtime.balance.worth import SHORT_SHARE
from tests.support.balance import snapshots


def joined(total_blocks: int, servers: list[tuple[int, float]]) -> Snapshot:
    """Return what becomes of servers (blocks, throughput) that join one after the other."""
    snapshot = Snapshot.of(total_blocks, [])
    for number, (num_blocks, throughput) in enumerate(servers):
        peer = f"{number:03d}"
        choice = choose_best_blocks(snapshot, peer, num_blocks, throughput)
        snapshot = snapshot.with_server(Placed(peer, choice.start, choice.end, throughput))
    return snapshot


def worth(snapshot: Snapshot) -> float:
    """Return what a placement is worth, one swarm after the other."""
    short = [capacity(snapshot.without(server.peer_id)) for server in snapshot.servers]
    return (1 - SHORT_SHARE) * capacity(snapshot) + SHORT_SHARE * sum(short) / len(short)


@pytest.mark.parametrize("copies", [1, 2, 3, 4])
def test_equal_servers_tile_the_model(copies: int) -> None:
    snapshot = joined(32, [(8, 1.0)] * 4 * copies)
    assert set(snapshot.replicas.tolist()) == {copies}
    assert capacity(snapshot) == pytest.approx(copies)


def test_the_guides_example_covers_the_model_in_order() -> None:
    assert [(s.start, s.end) for s in joined(32, [(8, 1.0)] * 4).servers] == [
        (0, 8),
        (8, 16),
        (16, 24),
        (24, 32),
    ]


@given(
    st.integers(2, 24).flatmap(
        lambda total: st.tuples(
            st.just(total),
            st.lists(st.tuples(st.integers(1, total), st.floats(0.1, 10)), min_size=1, max_size=12),
        )
    )
)
def test_no_gap_stays_that_joining_servers_could_close(
    case: tuple[int, list[tuple[int, float]]],
) -> None:
    total, servers = case
    held = 0
    snapshot = Snapshot.of(total, [])
    for number, (num_blocks, throughput) in enumerate(servers):
        choice = choose_best_blocks(snapshot, str(number), num_blocks, throughput)
        assert choice.end - choice.start == num_blocks
        widest = max(
            sum(block in snapshot.holes for block in range(start, start + num_blocks))
            for start in range(total - num_blocks + 1)
        )
        assert choice.closes == widest
        snapshot = snapshot.with_server(Placed(str(number), choice.start, choice.end, throughput))
        held = min(total, held + num_blocks)
        assert total - len(snapshot.holes) == held


@given(snapshots(), st.integers(1, 4), st.floats(0.1, 10))
def test_a_choice_is_a_function_of_the_snapshot(
    snapshot: Snapshot, num_blocks: int, throughput: float
) -> None:
    if num_blocks > snapshot.total_blocks:
        with pytest.raises(ValueError, match="a model that has"):
            choose_best_blocks(snapshot, "new", num_blocks, throughput)
        return
    shuffled = Snapshot.of(snapshot.total_blocks, reversed(snapshot.servers))
    assert choose_best_blocks(snapshot, "new", num_blocks, throughput) == choose_best_blocks(
        shuffled, "new", num_blocks, throughput
    )


@given(snapshots(some_load=True))
def test_a_move_helps_and_leaves_no_block_alone(snapshot: Snapshot) -> None:
    move = best_move(snapshot)
    if move is None:
        return
    (server,) = (each for each in snapshot.servers if each.peer_id == move.peer_id)
    assert server.online
    assert server.num_blocks == move.end - move.start
    others = snapshot.online().without(move.peer_id)
    stays = range(move.start, move.end) if server.beside else ()
    left = [block for block in range(server.start, server.end) if block not in stays]
    assert (others.replicas[left] > 0).all()
    moved = snapshot.with_server(Placed(server.peer_id, move.start, move.end, server.throughput))
    assert len(moved.holes) == len(snapshot.holes) - move.closes
    assert move.after == pytest.approx(capacity(moved))
    assert move.closes > 0 or worth(moved) > worth(snapshot)
    assert move.gain == pytest.approx(worth(moved) - worth(snapshot), abs=1e-6)


def test_a_gap_is_closed_by_whoever_is_not_alone() -> None:
    snapshot = Snapshot.of(8, [Placed("a", 0, 4, 1), Placed("b", 0, 4, 1), Placed("c", 4, 6, 1)])
    move = best_move(snapshot)
    assert move is not None
    assert (move.peer_id, move.start, move.end, move.closes) in {
        ("a", 4, 8, 2),
        ("b", 4, 8, 2),
    }
    assert "nobody serves 2" in move.reason


def test_nobody_moves_who_is_needed_where_it_is() -> None:
    assert best_move(Snapshot.of(8, [Placed("a", 0, 4, 1), Placed("b", 4, 8, 1)])) is None
    assert best_move(Snapshot.of(8, [])) is None


@pytest.mark.parametrize("beside", [False, True])
def test_who_loads_beside_closes_a_gap_next_to_what_it_alone_has(beside: bool) -> None:
    spans = {"a": (0, 8), "b": (8, 16), "c": (16, 24), "d": (18, 26)}
    snapshot = Snapshot.of(
        32, [Placed(name, *span, 1, beside=beside) for name, span in spans.items()]
    )
    move = best_move(snapshot)
    # d alone has 24 and 25, and would have them afterwards.
    assert (move and (move.peer_id, move.start, move.closes)) == (("d", 24, 6) if beside else None)


def test_of_equal_servers_with_memory_for_both_none_leaves_what_it_alone_has() -> None:
    snapshot = Snapshot.of(12, [Placed("a", 0, 4, 1, beside=True), Placed("b", 4, 8, 1)])
    assert best_move(snapshot) is None


def test_servers_with_fixed_splits_count_but_never_move() -> None:
    fixed = [Placed(name, 0, 4, 1, fixed=True) for name in "xyz"]
    crowd = Snapshot.of(8, [*fixed, Placed("a", 0, 4, 1), Placed("b", 4, 8, 1)])
    move = best_move(crowd)
    assert move is not None
    assert (move.peer_id, move.start) == ("a", 4)
    assert best_move(Snapshot.of(8, [*fixed, Placed("b", 4, 8, 1)])) is None


def test_a_server_is_placed_as_if_it_were_not_there_yet() -> None:
    snapshot = Snapshot.of(8, [Placed("a", 0, 4, 1), Placed("b", 4, 8, 1)])
    choice = choose_best_blocks(snapshot, "b", 4, 1)
    assert (choice.start, choice.end, choice.before, choice.after) == (4, 8, 0, 1)


def test_who_rests_holds_nobody_up_and_moves_where_blocks_are_missing() -> None:
    crowd = [Placed("a", 0, 4, 1), Placed("b", 0, 4, 1), Placed("c", 0, 4, 1)]
    far = Placed("d", 4, 8, 1)
    move = best_move(Snapshot.of(8, [*crowd, far]))
    assert move is not None
    rested = [replace(each, rests=each.peer_id == move.peer_id) for each in crowd]
    second = best_move(Snapshot.of(8, [*rested, far]))
    assert second is not None
    assert second.peer_id != move.peer_id
    tired = [replace(each, rests=True) for each in crowd]
    assert best_move(Snapshot.of(8, [*tired, far])) is None
    closing = best_move(Snapshot.of(8, tired))
    assert closing is not None
    assert closing.closes == 4


def test_with_a_floor_of_two_every_block_has_two_copies_before_speed_counts() -> None:
    snapshot = {floor: Snapshot.of(8, [], floor) for floor in (1, 2)}
    for name, throughput in (("quick", 100.0), ("a", 1.0), ("b", 1.0), ("c", 1.0)):
        for floor, swarm in snapshot.items():
            choice = choose_best_blocks(swarm, name, 4, throughput)
            placed = Placed(name, choice.start, choice.end, throughput)
            snapshot[floor] = swarm.with_server(placed)
    assert snapshot[1].replicas.tolist() == [1] * 4 + [3] * 4
    assert snapshot[2].replicas.tolist() == [2] * 8


def test_who_can_be_spared_brings_copies_up_to_the_floor() -> None:
    servers = [Placed("a", 0, 8, 9), *(Placed(name, 0, 4, 1) for name in "bc")]
    move = best_move(Snapshot.of(8, servers, 2))
    assert move is not None
    assert (move.peer_id, move.start, move.closes, move.copies, move.mends) == ("c", 4, 0, 4, True)
    assert move.reason == "4 copies are missing to replica_floor"


@given(snapshots(some_load=True), st.integers(1, 3))
def test_no_move_takes_a_copy_away_that_a_block_should_have(snapshot: Snapshot, floor: int) -> None:
    swarm = replace(snapshot, replica_floor=floor)
    move = best_move(swarm)
    if move is None:
        return
    (server,) = (each for each in swarm.servers if each.peer_id == move.peer_id)
    moved = swarm.with_server(Placed(server.peer_id, move.start, move.end, server.throughput))
    assert move.copies == swarm.missing_copies - moved.missing_copies
    assert move.closes > 0 or move.copies >= 0


@given(snapshots())
def test_a_floor_of_one_is_the_absence_of_gaps(snapshot: Snapshot) -> None:
    assert snapshot.missing_copies == len(snapshot.holes)
    assert (snapshot.strength == snapshot.block_throughput).all()
