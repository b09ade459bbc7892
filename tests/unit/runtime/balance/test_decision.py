import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.decision import Decision, should_choose_other_blocks
from runtime.balance.snapshot import Placed, Snapshot
from tests.support.balance import snapshots

CROWDED = Snapshot.of(
    8, [Placed("a", 0, 4, 1), Placed("b", 0, 4, 1), Placed("c", 0, 4, 1), Placed("d", 4, 8, 1)]
)


def test_one_server_moves_and_the_others_know_which() -> None:
    found = {
        peer: should_choose_other_blocks(CROWDED, peer, 0.75, load_seconds=30) for peer in "abcd"
    }
    (mover,) = [peer for peer, decision in found.items() if decision.move is not None]
    move = found[mover].move
    assert move is not None
    assert (move.start, move.end) == (4, 8)
    for peer in set("abcd") - {mover}:
        assert found[peer].reason == f"a move of {mover} helps most"
    assert found[mover].reason == "below balance_quality 0.75"


def test_it_is_said_in_the_words_that_operators_look_for() -> None:
    assert (
        str(Decision(None, 12.45, 14.62, ""))
        == "Swarm balance quality: 85.2% (initial=12.45, new=14.62)"
    )


@pytest.mark.parametrize(
    ("faster", "load_seconds", "moves", "reason"),
    [
        # Capacities: 4 + faster against 2 * 4 as it is, and balanced.
        (0.0, 30, False, "no move would help"),
        (3.0, 30, True, "below balance_quality"),
    ],
)
def test_a_move_is_worth_it_or_not(
    faster: float, load_seconds: float, moves: bool, reason: str
) -> None:
    servers = [Placed(name, 0, 4, 1) for name in "ab"] + [Placed(name, 4, 8, 1) for name in "cd"]
    if faster:
        servers.append(Placed("e", 0, 4, faster))
    snapshot = Snapshot.of(8, servers)
    found = [
        should_choose_other_blocks(snapshot, server.peer_id, 0.75, load_seconds)
        for server in servers
    ]
    assert any(decision.move is not None for decision in found) == moves
    assert any(decision.reason.startswith(reason) for decision in found)


def test_above_the_quality_a_move_has_to_pay() -> None:
    # One more server than can be shared out evenly: the move gains a little, loading costs.
    servers = [Placed(f"a{number}", 0, 4, 1) for number in range(6)]
    servers += [Placed(f"b{number}", 4, 8, 1) for number in range(4)]
    snapshot = Snapshot.of(8, servers)
    quick = [should_choose_other_blocks(snapshot, s.peer_id, 0.75, 30) for s in servers]
    slow = [should_choose_other_blocks(snapshot, s.peer_id, 0.75, 1e6) for s in servers]
    (decision,) = [decision for decision in quick if decision.move]
    assert decision.quality == pytest.approx(0.8)
    assert decision.reason.startswith("it pays for itself in")
    # Nobody is missed at the crowded end, so even slow loading costs nothing.
    assert [decision.move for decision in slow].count(None) == len(servers) - 1


def test_loading_that_takes_too_long_does_not_pay() -> None:
    servers = [
        Placed("a", 0, 6, 1.0),
        Placed("b", 0, 6, 1.0),
        Placed("c", 4, 8, 1.0),
        Placed("d", 4, 8, 1.0),
        Placed("e", 2, 8, 0.9),
    ]
    snapshot = Snapshot.of(8, servers)
    quick = [should_choose_other_blocks(snapshot, s.peer_id, 0.5, 0) for s in servers]
    slow = [should_choose_other_blocks(snapshot, s.peer_id, 0.5, 1e9) for s in servers]
    assert sum(decision.move is not None for decision in quick) <= 1
    assert sum(decision.move is not None for decision in slow) <= sum(
        decision.move is not None for decision in quick
    )


def test_a_quality_of_zero_keeps_everybody_where_they_are() -> None:
    for peer in "abcd":
        decision = should_choose_other_blocks(CROWDED, peer, 0, load_seconds=0)
        assert decision.move is None


@given(snapshots(some_load=True), st.floats(0, 1), st.floats(0, 600))
def test_at_most_one_server_moves(snapshot: Snapshot, quality: float, load: float) -> None:
    movers = [
        server.peer_id
        for server in snapshot.servers
        if should_choose_other_blocks(snapshot, server.peer_id, quality, load).move is not None
    ]
    assert len(movers) <= 1
