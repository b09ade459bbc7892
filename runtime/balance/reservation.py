"""How servers that start together end where they would have ended one after the other.

Lamport's bakery (Communications of the ACM 17, 1974), with the swarm's directory for shared memory:

1. A server draws a ticket, one more than any it sees, and announces that it wants blocks.
2. It waits until its word has reached everybody, looks, and chooses behind those with smaller
   tickets, whose choices it can foresee: choosing is a pure function of what is announced.
3. It waits again, looks again, and goes on once its choice has not changed.

If d is the time within which a record reaches everybody and each wait is at least d, then of any
two servers either the later one has seen the earlier one's ticket and has a larger one, or the one
with the larger ticket has seen the other before it went on. So a server may ignore whoever has a
larger ticket: it has been reckoned with. Clocks play no part.

That holds of one that serves already, too, as long as somebody with a smaller ticket chooses: it
has foreseen that choice, and who reckoned with it now would choose otherwise.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.balance.coordinate import Coordinate
from runtime.balance.nearness import Outlook, Places
from runtime.balance.placement import Choice, best_start, joining
from runtime.balance.seat import Seat, snapshot_of
from runtime.balance.snapshot import Floats, Integers, Placed, Snapshot, lacking_copies, strength


def ticket(others: Iterable[Seat]) -> int:
    """Return a ticket behind all that are seen."""
    return max((seat.ticket for seat in others), default=0) + 1


@dataclass(frozen=True, eq=False)
class Line:
    """Those who serve, and some of those who ask for blocks, in the order in which they choose.

    Attributes:
        settled: those who serve.
        before: the line without its last server; None: nobody asks.
        last: the server at its end, and the blocks that it takes.
        block_throughput: of all of them, decode steps per second, float64 [blocks].
        replicas: how many of them hold each block, int64 [blocks].
        places: where all of them are, and the client sides.
    """

    settled: Snapshot
    before: "Line | None"
    last: Placed | None
    block_throughput: Floats
    replicas: Integers
    places: Places

    def chosen(self, me: Seat) -> tuple[int, int]:
        """Return the blocks that a server behind this line takes.

        Raises:
            ValueError: the server takes more blocks than the model has.
        """
        floor = self.settled.replica_floor
        weak = strength(self.block_throughput, self.replicas, floor)
        outlook = Outlook(me.coordinate, self.places, lacking_copies(self.replicas, floor))
        start = best_start(weak, me.num_blocks, me.throughput, outlook)
        return start, start + me.num_blocks

    def choice(self, me: Seat) -> Choice:
        """Return the same with what it does to the swarm.

        Raises:
            ValueError: the server takes more blocks than the model has.
        """
        asking = []
        line: Line | None = self
        while line is not None and line.last is not None:
            asking.append(line.last)
            line = line.before
        settled = self.settled
        others = Snapshot.of(
            settled.total_blocks, (*settled.servers, *asking), settled.replica_floor
        )
        return joining(others, Placed(me.peer_id, *self.chosen(me), me.throughput))


def line_before(
    total_blocks: int, me: Seat, others: Iterable[Seat], replica_floor: int = 1
) -> Line:
    """Return all that a server chooses behind: those who serve, and who asked before it.

    Args:
        total_blocks: of the model.
        me: the server, reserving.
        others: the seats of all others.
        replica_floor: so many copies every block should have.
    """
    others = tuple(others)
    settled = (seat for seat in others if _is_settled(seat))
    # In one order, so that lines of the same servers are one line.
    clients = sorted(
        (seat.coordinate for seat in others if seat.client and seat.coordinate is not None),
        key=lambda where: (where.x, where.y, where.height, where.error),
    )
    line = _settled(snapshot_of(total_blocks, settled, replica_floor), tuple(clients))
    place = me.place
    queue = [(seat.place, seat) for seat in others if not _is_settled(seat)]
    # Places differ, so that seats are never compared.
    for _, seat in sorted(each for each in queue if each[0] < place):
        if 1 <= seat.num_blocks <= total_blocks:
            line = _behind(line, seat)
    return line


@functools.lru_cache(maxsize=16)
def _settled(snapshot: Snapshot, clients: tuple[Coordinate, ...]) -> Line:
    places = Places.of(snapshot.total_blocks, snapshot.servers, clients)
    return Line(snapshot, None, None, snapshot.block_throughput, snapshot.replicas, places)


# Who looks again, or looks beside others in one simulation, foresees most of the same choices.
@functools.lru_cache(maxsize=1 << 14)
def _behind(line: Line, seat: Seat) -> Line:
    """Return a line with a server more; what it takes is known, or foreseen while it reserves."""
    span = line.chosen(seat) if seat.phase == "reserving" else (seat.start, seat.end)
    held, replicas = line.block_throughput.copy(), line.replicas.copy()
    held[span[0] : span[1]] += seat.throughput
    replicas[span[0] : span[1]] += 1
    last = Placed(seat.peer_id, *span, seat.throughput, coordinate=seat.coordinate)
    return Line(line.settled, line, last, held, replicas, line.places.with_server(last))


def _is_settled(seat: Seat) -> bool:
    """Return whether a server is where it is whatever newcomers do: it serves, or it moves."""
    serves = seat.phase in {"online", "draining"} and not seat.in_line
    return serves or seat.claim is not None


def is_behind(me: Seat, others: Iterable[Seat]) -> bool:
    """Return whether somebody who asked for blocks before this server still chooses."""
    return any(seat.phase == "reserving" and seat.place < me.place for seat in others)
