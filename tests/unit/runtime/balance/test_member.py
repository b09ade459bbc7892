import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from runtime.balance.coordinate import Coordinate
from runtime.balance.member import Manner, Member
from runtime.balance.seat import Seat, serving

MANNER = Manner(total_blocks=8)


def member(manner: Manner = MANNER) -> Member:
    own = Seat("me", "reserving", 0, 0, 4, 1, ticket=0)
    return Member(manner, own, np.random.default_rng(1))


def served(manner: Manner = MANNER) -> Member:
    """Return a member that serves [0, 4) beside `CROWD`."""
    me = member(manner)
    me.join(0, [])
    while me.doing != "loading":
        me.advance(me.wake, [])
    me.loaded(me.wake if math.isfinite(me.wake) else 20, 10, 1)
    return me


def other(name: str, start: int, end: int) -> Seat:
    return Seat(name, "online", start, end, 4, 1, ticket=1)


# Of equals the one with the last name moves, here "me".
CROWD = [other("a", 0, 4), other("b", 0, 4), other("c", 4, 8)]


def until(me: Member, done: Callable[[], bool], others: list[Seat]) -> None:
    """Let a member go on while the others renew what they say."""
    for beat in range(2, 100):
        if done():
            return
        me.advance(me.wake, [replace(seat, beat=beat) for seat in others])
    raise AssertionError(me.doing)


def test_it_asks_waits_looks_twice_and_loads() -> None:
    me = member()
    me.join(100, [other("a", 0, 4)])
    assert (me.seat.phase, me.seat.ticket, me.wake) == ("reserving", 2, 105)
    me.advance(104, [])
    assert me.wake == 105
    me.advance(105, [other("a", 0, 4)])
    assert (me.seat.phase, me.seat.start, me.wake) == ("reserving", 4, 110)
    me.advance(110, [other("a", 0, 4)])
    assert (me.seat.phase, me.doing, me.load) == ("joining", "loading", (4, 8))
    me.loaded(130, 20, 2.5)
    assert (me.seat.phase, me.seat.throughput, me.doing) == ("online", 2.5, "idle")


def state(me: Member) -> tuple[str, str, tuple[int, int] | None]:
    """Return what a member does, what it says of that, and what it loads."""
    return me.doing, me.seat.phase, me.load


def test_what_nobody_contests_is_served_as_soon_as_it_is_settled() -> None:
    me = member()
    me.join(0, [])
    assert state(me) == ("reserving", "reserving", (0, 4))
    me.advance(5, [])
    # Loaded, but not its own yet: nobody is told, and nothing else is loaded.
    me.loaded(8, 8, 2.5)
    assert state(me) == ("reserving", "reserving", None)
    me.advance(10, [])
    assert state(me) == ("idle", "online", None)
    assert (me.seat.start, me.seat.end, me.seat.throughput, me.load_seconds) == (0, 4, 2.5, 8)


def test_what_was_loaded_ahead_and_is_anothers_is_not_served() -> None:
    me = member()
    me.join(0, [])
    me.loaded(3, 3, 2.5)
    me.advance(5, [other("a", 0, 4)])
    assert state(me) == ("reserving", "reserving", (4, 8))
    me.advance(10, [other("a", 0, 4)])
    assert state(me) == ("loading", "joining", (4, 8))
    me.loaded(12, 9, 1.5)
    assert (me.seat.start, me.seat.throughput) == (4, 1.5)


def test_who_has_chosen_stays_in_line_until_those_ahead_of_it_have() -> None:
    first = Seat("a", "reserving", 0, 4, 4, 1, ticket=1)
    behind = Seat("z", "reserving", 4, 8, 4, 1, ticket=9)
    me = member()
    me.join(0, [first])
    me.loaded(3, 3, 1)
    for due in (5, 10, 15):
        me.advance(due, [first, behind])
    assert (me.seat.phase, me.seat.start, me.seat.in_line) == ("online", 4, True)
    in_line = []
    for phase in ("reserving", "joining"):
        me.advance(16, [replace(first, phase=phase), behind])
        in_line.append(me.seat.in_line)
    assert in_line == [True, False]
    assert not served().seat.in_line


@pytest.mark.parametrize("doing", ["reserving", "claiming", "leaving"])
def test_what_is_told_late_is_waited_for_as_long(doing: str) -> None:
    me = member() if doing == "reserving" else served()
    if doing == "reserving":
        me.join(0, [])
    until(me, lambda: me.doing == doing, CROWD)
    due = me.wake
    me.told_late(3)
    assert me.wake == due + 3
    seat = me.seat
    me.advance(due + 2, CROWD)
    assert (me.doing, me.seat) == (doing, seat)


def test_who_rests_does_not_wait_for_what_is_told_late() -> None:
    me = served()
    due = me.wake
    me.told_late(3)
    assert (me.doing, me.wake) == ("idle", due)


def test_a_choice_that_has_changed_is_looked_at_again() -> None:
    me = member()
    me.join(0, [])
    me.advance(5, [])
    assert me.seat.start == 0
    me.advance(10, [other("a", 0, 4)])
    assert (me.doing, me.seat.start) == ("reserving", 4)
    me.advance(15, [other("a", 0, 4)])
    assert me.load == (4, 8)


def test_it_moves_where_that_helps_and_says_every_step() -> None:
    me = served()
    until(me, lambda: me.doing == "claiming", CROWD)
    assert me.seat.claim == 1
    until(me, lambda: me.doing == "leaving", CROWD)
    assert (me.seat.phase, me.seat.target) == ("draining", (4, 8))
    until(me, lambda: me.doing == "draining", CROWD)
    me.drained()
    assert (me.seat.phase, me.load) == ("joining", (4, 8))
    me.loaded(1000, 10, 1)
    assert me.seat == replace(me.seat, phase="online", start=4, end=8, claim=None, target=None)


BOTH = replace(MANNER, keeps_both=True)


def test_with_memory_for_both_it_serves_the_old_blocks_while_it_loads_the_new() -> None:
    me = served(BOTH)
    until(me, lambda: me.doing == "loading", CROWD)
    assert (me.seat.phase, me.seat.start, me.seat.target, me.load) == ("online", 0, (4, 8), (4, 8))
    # Nobody relies on what it is about to leave.
    assert not serving(8, [me.seat]).servers
    before = me.seat
    me.loaded(1000, 10, 2.5)
    assert (me.doing, me.seat) == ("leaving", before)
    me.advance(me.wake, [replace(seat, beat=99) for seat in CROWD])
    there = replace(before, start=4, end=8, throughput=2.5)
    wanted = replace(there, target=None, claim=None, moves="in need")
    assert (me.doing, me.seat) == ("idle", wanted)


def test_what_is_loaded_quickly_waits_until_others_have_spoken() -> None:
    me = served(BOTH)
    until(me, lambda: me.doing == "claiming", CROWD)
    moves = me.wake
    until(me, lambda: me.doing == "loading", CROWD)
    me.loaded(moves + 1, 1, 1)
    assert me.wake == moves + MANNER.settle_seconds + MANNER.renew_seconds


def test_with_memory_for_both_it_closes_a_gap_next_to_what_it_alone_has() -> None:
    me = served(BOTH)
    others = [other("a", 0, 2), other("b", 6, 8)]
    until(me, lambda: me.doing == "loading", others)
    assert (me.seat.beside, me.load) == (True, (2, 6))
    me.loaded(1000, 10, 1)
    me.advance(me.wake, [replace(seat, beat=99) for seat in others])
    assert (me.seat.start, me.seat.end, me.seat.target) == (2, 6, None)


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param([other("a", 0, 4), other("b", 0, 4)], id="nobody else has spoken since"),
        pytest.param([replace(other("c", 4, 8), beat=99)], id="it became the last copy"),
        pytest.param(
            [replace(other(name, 4, 8), beat=99) for name in "abcdef"]
            + [replace(other("g", 0, 4), beat=99)],
            id="others have come to where it goes",
        ),
    ],
)
def test_a_move_whose_reason_has_gone_while_it_loaded_is_given_up(meanwhile: list[Seat]) -> None:
    me = served(BOTH)
    until(me, lambda: me.doing == "loading", CROWD)
    me.loaded(1000, 10, 1)
    me.advance(me.wake, meanwhile)
    assert (me.doing, me.seat.phase, me.seat.start) == ("idle", "online", 0)
    assert (me.seat.target, me.seat.claim) == (None, None)


def test_a_move_whose_reason_goes_while_sessions_end_is_given_up() -> None:
    me = served()
    until(me, lambda: me.doing == "draining", CROWD)
    me.advance(me.wake, [replace(seat, beat=99) for seat in CROWD])
    assert me.doing == "draining"
    me.advance(me.wake, [replace(CROWD[2], beat=100)])
    assert (me.doing, me.seat.phase, me.seat.start) == ("idle", "online", 0)


@pytest.mark.parametrize("at", ["claiming", "leaving"])
def test_it_gives_up_where_the_gain_has_vanished_or_others_have_gone(at: str) -> None:
    me = served()
    until(me, lambda: me.doing == at, CROWD)
    me.advance(me.wake, [])
    assert (me.doing, me.seat.phase, me.seat.claim, me.seat.target) == (
        "idle",
        "online",
        None,
        None,
    )
    assert me.seat.start == 0
    assert me.seat.reason in {
        "the gain has vanished meanwhile, or another server was faster",
        "others do not serve what it would leave, or the gain has vanished",
    }


def test_a_server_says_why_it_is_where_it_is_and_why_it_moves() -> None:
    me = member()
    me.join(0, [])
    until(me, lambda: me.doing == "loading", [])
    assert me.seat.reason == "nobody serves 4 of these blocks"
    me = served()
    until(me, lambda: me.doing == "draining", CROWD)
    assert (me.seat.target, me.seat.reason) == ((4, 8), "below balance_quality 0.75")
    me.stay(0)
    assert me.seat.reason == "its sessions did not end in time"
    me = served()
    me.news.clear()
    until(me, lambda: bool(me.news), [other("a", 4, 8)])
    assert me.seat.reason == "no move would help"


def test_an_older_claim_goes_first() -> None:
    me = served()
    until(me, lambda: me.doing == "claiming", CROWD)
    me.advance(me.wake, [*CROWD[1:], replace(CROWD[0], claim=1)])
    assert (me.doing, me.seat.claim) == ("idle", None)
    # The number is spent, whoever moved by it.
    assert me.seat.fence == 1


def test_it_waits_for_those_who_come() -> None:
    me = served()
    coming = Seat("new", "reserving", 0, 0, 4, 1, ticket=5)
    for _ in range(50):
        me.advance(me.wake, [*CROWD, coming])
        assert me.seat.claim is None


def moved() -> Member:
    """Return a member that has just moved to [4, 8)."""
    me = served()
    until(me, lambda: me.doing == "draining", CROWD)
    me.drained()
    me.loaded(1000, 10, 1)
    return me


def test_after_a_move_it_rests() -> None:
    me = moved()
    crowd = [other("a", 4, 8), other("b", 4, 8), other("c", 0, 4)]
    while me.wake < 1300:
        me.advance(me.wake, crowd)
        assert me.seat.claim is None


def test_a_gap_is_a_reason_to_look_at_once_even_after_a_move() -> None:
    me = moved()
    me.advance(me.wake, [other("a", 0, 4), other("b", 4, 8)])
    assert me.doing == "idle"
    me.advance(me.wake - 0.5, [other("b", 4, 8)])
    assert (me.doing, me.seat.claim) == ("claiming", 2)


def test_what_makes_no_sense_is_refused() -> None:
    me = member()
    with pytest.raises(ValueError, match="nothing was to be loaded"):
        me.loaded(0, 1, 1)
    with pytest.raises(ValueError, match="no blocks to go to"):
        me.drained()


def test_others_who_change_without_end_hold_a_newcomer_up_for_a_while_only() -> None:
    me, now = member(), 0.0
    me.join(now, [])
    for turn in range(100):
        now += me.manner.settle_seconds
        first = 4 * (turn % 2)
        me.advance(now, [Seat("liar", "online", first, first + 4, 4, 1, ticket=1)])
        if me.doing != "reserving":
            break
    assert me.doing == "loading"
    assert (me.seat.start, me.seat.end) == me.load
    assert 10 < turn < 20


def test_where_it_is_changes_at_any_time_but_while_it_chooses() -> None:
    one, other = Coordinate(0, 0), Coordinate(0.1, 0)
    me = member()
    me.located(one)
    me.join(0, [])
    me.located(other)
    assert me.seat.coordinate == other
    me.advance(5, [])
    me.located(one)
    assert (me.doing, me.seat.coordinate) == ("reserving", other)
    me.advance(10, [])
    me.located(one)
    assert (me.doing, me.seat.coordinate) == ("loading", one)
