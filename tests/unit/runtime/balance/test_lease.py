from dataclasses import replace
from typing import Any

from runtime.balance.lease import claimed, holds, may_leave
from runtime.balance.seat import Seat


def seat(name: str, start: int = 0, end: int = 4, **other: Any) -> Seat:
    return replace(Seat(name, "online", start, end, end - start, 1, ticket=1), **other)


def test_a_claim_is_made_where_nobody_has_one_and_behind_all_before() -> None:
    assert claimed(seat("a", fence=3), [seat("b", fence=7)]) == 8
    assert claimed(seat("a"), [seat("b", claim=1)]) is None


def test_of_claims_side_by_side_the_smallest_counts() -> None:
    first, second = seat("a", claim=5), seat("b", claim=5)
    assert holds(first, [second])
    assert not holds(second, [first])
    assert not holds(seat("a"), [])
    assert not holds(seat("a", claim=6), [second])


def test_nobody_leaves_blocks_that_no_other_serves() -> None:
    me = seat("me", phase="draining", target=(4, 8))
    beats = {"b": 1, "c": 1}
    there = seat("b", 0, 4, beat=2)
    assert may_leave(8, me, [there], beats)
    assert not may_leave(8, me, [], beats)
    assert not may_leave(8, me, [seat("b", 0, 3, beat=2)], beats)
    assert may_leave(8, me, [seat("b", 0, 3, beat=2), seat("c", 3, 6, beat=2)], beats)


def test_who_serves_until_it_has_the_new_blocks_keeps_what_is_in_both() -> None:
    me = seat("me", phase="online", target=(2, 6))
    assert may_leave(8, me, [seat("b", 0, 2, beat=2)], {"b": 1})
    assert not may_leave(8, me, [seat("b", 0, 1, beat=2)], {"b": 1})
    # One that drains first serves nothing while it loads.
    drains = seat("me", phase="draining", target=(2, 6))
    assert not may_leave(8, drains, [seat("b", 0, 2, beat=2)], {"b": 1})


def test_a_server_with_fixed_splits_stays_without_saying_so() -> None:
    me = seat("me", phase="draining", target=(4, 8))
    assert may_leave(8, me, [seat("b", fixed=True)], {"b": 0})
    assert not may_leave(8, me, [seat("b", phase="draining", fixed=True)], {"b": 0})


def test_who_leaves_or_loads_or_is_not_heard_any_more_does_not_count() -> None:
    me = seat("me", phase="draining", target=(4, 8))
    assert not may_leave(8, me, [seat("b", phase="draining", beat=2)], {"b": 1})
    assert not may_leave(8, me, [seat("b", phase="joining", beat=2)], {"b": 1})
    # It has said nothing since; it may be gone, or leave as well.
    assert not may_leave(8, me, [seat("b", beat=1)], {"b": 1})
    # It has come since, and may have spoken before it could hear.
    assert not may_leave(8, me, [seat("new", beat=1)], {"b": 1})
