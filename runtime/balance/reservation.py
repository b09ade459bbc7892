"""How servers that start together end where they would have ended one after the other.

Lamport's bakery (Communications of the ACM 17, 1974), with the swarm's directory for shared memory:

1. A server draws a ticket, one more than any it sees, and announces that it wants blocks.
2. It waits until its word has reached everybody, looks, and chooses behind those with smaller
   tickets, whose choices it can foresee: choosing is a pure function.
3. It waits again, looks again, and goes on once its choice has not changed.

If d is the time within which a record reaches everybody and each wait is at least d, then of any
two servers either the later one has seen the earlier one's ticket and has a larger one, or the one
with the larger ticket has seen the other before it went on. So a server may ignore whoever has a
larger ticket: it has been reckoned with. Clocks play no part.
"""

from collections.abc import Iterable

from runtime.balance.placement import Choice, choose_best_blocks
from runtime.balance.seat import Seat, snapshot_of
from runtime.balance.snapshot import Placed


def ticket(others: Iterable[Seat]) -> int:
    """Return a ticket behind all that are seen."""
    return max((seat.ticket for seat in others), default=0) + 1


def chosen(total_blocks: int, me: Seat, others: Iterable[Seat]) -> Choice:
    """Return the blocks that a server takes, behind all that asked before it.

    Args:
        total_blocks: of the model.
        me: the server, reserving.
        others: the seats of all others.

    Raises:
        ValueError: the server takes more blocks than the model has.
    """
    others = tuple(others)
    snapshot = snapshot_of(total_blocks, (seat for seat in others if _is_settled(seat)))
    queue = (seat for seat in others if not _is_settled(seat) and seat.place < me.place)
    for seat in sorted(queue, key=lambda seat: seat.place):
        if seat.num_blocks <= total_blocks:
            placed = seat.placed
            if seat.phase == "reserving":
                choice = choose_best_blocks(
                    snapshot, seat.peer_id, seat.num_blocks, seat.throughput
                )
                placed = Placed(seat.peer_id, choice.start, choice.end, seat.throughput)
            snapshot = snapshot.with_server(placed)
    return choose_best_blocks(snapshot, me.peer_id, me.num_blocks, me.throughput)


def _is_settled(seat: Seat) -> bool:
    """Return whether a server is where it is whatever newcomers do: it serves, or it moves."""
    return seat.phase in {"online", "draining"} or seat.claim is not None
