"""Who may move: one server at a time, by claims that everybody can see.

A claim is made where nobody else's is seen, counts after it has had time to reach everybody, and is
given up where an older one turns up meanwhile: of claims that were made side by side the smallest
wins, and all see the same ones. A claim lives in its owner's record and dies with it.

The directory promises no more than that records arrive within some time, so a lease is a courtesy,
not what safety rests on: before a server leaves its blocks it says so, waits, and looks whether
somebody who stays serves each of them (`may_leave`). Only those count that have spoken since, so
that no copy is relied on that may have gone, or be going, out of sight. Of two servers that rely on
each other one announces first; whatever it says from then on is that it leaves, so the other stays.
"""

from collections.abc import Iterable, Mapping

from runtime.balance.seat import Seat, serving


def claimed(me: Seat, others: Iterable[Seat]) -> int | None:
    """Return the claim that a server may make, or None while somebody else has one."""
    others = tuple(others)
    if any(seat.claim is not None for seat in others):
        return None
    return highest_fence((me, *others)) + 1


def holds(me: Seat, others: Iterable[Seat]) -> bool:
    """Return whether a claim is the first of all that are seen."""
    rank = me.rank
    return rank is not None and all(seat.rank is None or rank < seat.rank for seat in others)


def highest_fence(seats: Iterable[Seat]) -> int:
    """Return the highest fence that any of these servers has ever seen, or 0."""
    return max((seat.fence for seat in seats), default=0)


def may_leave(
    total_blocks: int, me: Seat, others: Iterable[Seat], beats: Mapping[str, int]
) -> bool:
    """Return whether others serve every block that a server leaves, and are not about to leave.

    One that serves its old blocks until it has the new ones does not leave what is in both.

    Args:
        total_blocks: of the model.
        me: the server that wants to leave.
        others: the seats of all others.
        beats: the others' beats when it said so; who has not spoken since does not count.
    """
    spoken = (
        seat
        for seat in others
        # One with fixed splits does not leave by itself, seen or not.
        if seat.fixed or seat.beat > beats.get(seat.peer_id, seat.beat)
    )
    copies = serving(total_blocks, spoken).replicas
    if me.phase == "online" and me.target is not None:
        copies[slice(*me.target)] = 1
    return bool((copies[me.start : me.end] > 0).all())
