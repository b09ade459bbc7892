"""What a balanced server tells the others of itself, and what they make of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from runtime.balance.coordinate import Coordinate
from runtime.balance.snapshot import Placed, Snapshot

Phase = Literal["reserving", "joining", "online", "draining"]
Moves = Literal["freely", "in need", "never"]


@dataclass(frozen=True, slots=True)
class Seat:
    """One server's record, as far as balancing goes.

    Attributes:
        peer_id: who it is.
        phase: it has asked for blocks, loads them, serves them, or leaves them.
        start: its first block; while it reserves, of those that it is about to take.
        end: the block behind its last one.
        num_blocks: how many blocks it takes.
        throughput: decode steps per second that it makes through so many blocks.
        ticket: one more than any that it saw when it asked for blocks.
        in_line: it has chosen, and somebody who asked before it still chooses; it may serve
            already.
        target: the blocks that it moves to.
        claim: its claim to be the one that moves: one more than any that it had seen.
        fixed: it has fixed splits: it never moves, and takes no part in the protocol.
        moves: whether it would move; "in need": it has just done so, and does it again only where
            blocks are missing.
        beside: it has memory to load other blocks while it serves these.
        coordinate: where it is in the network; None: it does not say.
        client: sessions come from it and end there, whatever blocks it has.
        fence: the highest claim that it has ever seen, so that no number is used for two moves; it
            travels with other news and is none itself.
        beat: how many times it has said something, so that what it says can be told from an echo.
        reason: why it does what it does, for people; no decision depends on it.
    """

    peer_id: str
    phase: Phase
    start: int
    end: int
    num_blocks: int
    throughput: float
    ticket: int
    target: tuple[int, int] | None = None
    claim: int | None = None
    fixed: bool = False
    moves: Moves = "freely"
    beside: bool = False
    coordinate: Coordinate | None = None
    client: bool = False
    in_line: bool = False
    fence: int = field(default=0, compare=False)
    beat: int = field(default=0, compare=False)
    reason: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[int, str]:
        """Its place in the queue of those who ask for blocks."""
        return (self.ticket, self.peer_id)

    @property
    def rank(self) -> tuple[int, str] | None:
        """Its place in the queue of those who want to move."""
        return None if self.claim is None else (self.claim, self.peer_id)

    @property
    def placed(self) -> Placed:
        """Where it serves, or will."""
        start, end = self.target or (self.start, self.end)
        return Placed(
            self.peer_id,
            start,
            end,
            self.throughput,
            online=self.phase == "online",
            fixed=self.fixed or self.moves == "never",
            rests=self.moves == "in need",
            beside=self.beside,
            coordinate=self.coordinate,
        )


def snapshot_of(total_blocks: int, seats: Iterable[Seat], replica_floor: int = 1) -> Snapshot:
    """Return the swarm as it will be once everybody who has chosen blocks serves them."""
    # A client side may have no blocks.
    placed = (seat.placed for seat in seats if seat.phase != "reserving" and seat.num_blocks)
    return Snapshot.of(total_blocks, placed, replica_floor)


def has_gap(total_blocks: int, seats: Iterable[Seat]) -> bool:
    """Return whether the swarm will lack a block once everybody who has chosen serves."""
    spans = sorted(
        seat.target or (seat.start, seat.end) for seat in seats if seat.phase != "reserving"
    )
    reached = 0
    for start, end in spans:
        if start > reached:
            return True
        reached = max(reached, end)
    return reached < total_blocks


def serving(total_blocks: int, seats: Iterable[Seat]) -> Snapshot:
    """Return those that answer now, where they are now, and are not about to leave."""
    return Snapshot.of(
        total_blocks,
        (
            Placed(seat.peer_id, seat.start, seat.end, seat.throughput)
            for seat in seats
            # One that loads other blocks beside these is about to leave them.
            if seat.phase == "online" and seat.target is None
        ),
    )
