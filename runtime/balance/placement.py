"""Where a server helps most: one that joins, and one that could move.

A server that joins goes where it makes the swarm most even: where the sum of T⁻ᵖ over the blocks
falls most, T being the throughput over a block. The weakest blocks dominate that sum, the others
still count, and whatever joins or leaves next finds no worse than even. A server that moves is
paid for with the time it loads, so moves are compared by what the placement is worth afterwards
(see `worth`); of many evenness picks those for which that is computed.

Of places where it helps equally a server that joins takes the one whose neighbours are near (see
`nearness`).
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.balance.capacity import capacity
from runtime.balance.coordinate import Coordinate
from runtime.balance.evenness import gains_at, rounded
from runtime.balance.nearness import Outlook, Places, best_near
from runtime.balance.snapshot import Floats, Integers, Placed, Snapshot, strength
from runtime.balance.worth import Candidates, most_placements

_CANDIDATES = 8
"""Of so many placements, those with the largest capacity, the worth is compared."""
_SAME = 1e-6


@dataclass(frozen=True)
class Choice:
    """Where a server goes, and why.

    Attributes:
        peer_id: who it is.
        start: its first block there.
        end: the block behind its last one.
        before: the swarm's capacity without the change, in decode steps per second.
        after: the same with it.
        closes: how many blocks that nobody held it holds.
        copies: how many copies fewer are missing to `replica_floor` afterwards, gaps included.
        gain: of a move, what the swarm is worth more after it, in decode steps per second.
    """

    peer_id: str
    start: int
    end: int
    before: float
    after: float
    closes: int
    copies: int = 0
    gain: float = 0

    @property
    def mends(self) -> bool:
        """Whether blocks get copies that they should have."""
        return self.closes > 0 or self.copies > 0

    @property
    def reason(self) -> str:
        """Why there, in words."""
        if self.closes:
            return f"nobody serves {self.closes} of these blocks"
        if self.copies > 0:
            return f"{self.copies} copies are missing to replica_floor"
        if self.after > self.before * (1 + _SAME):
            return f"the swarm's capacity goes from {self.before:.2f} to {self.after:.2f} rps"
        if self.gain > 0:
            return "the swarm bears the loss of a server better"
        return "these blocks are the weakest"


def choose_best_blocks(
    snapshot: Snapshot,
    peer_id: str,
    num_blocks: int,
    throughput: float,
    coordinate: Coordinate | None = None,
) -> Choice:
    """Return where a server that holds `num_blocks` blocks helps most.

    Args:
        snapshot: the others; what it says of the server itself does not count.
        peer_id: the server.
        num_blocks: how many blocks it holds.
        throughput: its decode steps per second through so many blocks.
        coordinate: where it is in the network, if it knows.

    Raises:
        ValueError: the model has fewer blocks.
    """
    others = snapshot.without(peer_id)
    outlook = Outlook(
        coordinate, Places.of(others.total_blocks, others.servers), others.lacking_copies
    )
    start = best_start(others.strength, num_blocks, throughput, outlook)
    return joining(others, Placed(peer_id, start, start + num_blocks, throughput))


def joining(others: Snapshot, placed: Placed) -> Choice:
    """Return what a server does to the swarm that takes its place among the others."""
    after = others.with_server(placed)
    return Choice(
        peer_id=placed.peer_id,
        start=placed.start,
        end=placed.end,
        before=capacity(others),
        after=capacity(after),
        closes=len(others.holes) - len(after.holes),
        copies=others.missing_copies - after.missing_copies,
    )


def best_start(
    strength: Floats, num_blocks: int, throughput: float, outlook: Outlook | None = None
) -> int:
    """Return the first block of the span where a server that joins helps most.

    Args:
        strength: of the others' blocks, decode steps per second, float64 [blocks].
        num_blocks: how many blocks it holds.
        throughput: its decode steps per second through so many blocks.
        outlook: decides between equals; None: the leftmost of them is taken.

    Raises:
        ValueError: the model has fewer blocks.
    """
    if not 1 <= num_blocks <= len(strength):
        raise ValueError(f"{num_blocks} blocks of a model that has {len(strength)}")
    near = None if outlook is None else best_near(strength, num_blocks, throughput, outlook)
    if near is not None:
        return near
    gains = gains_at(strength[np.newaxis], np.array([throughput]), num_blocks)[0]
    # The leftmost of equals, so that what is free stays in one piece.
    return int(rounded(gains).argmax())


@functools.lru_cache(maxsize=4)
def best_move(snapshot: Snapshot) -> Choice | None:
    """Return the move of one server that helps most, or None if none helps.

    No server leaves blocks of which it is the last online copy, and none moves that still loads, is
    fixed, or rests after a move while no block is missing. One that loads other blocks beside its
    own does not leave those that are in both.
    """
    moves = _moves(snapshot)
    if not len(moves.who):
        return None
    closes, copies = _mended(snapshot, moves)
    order = np.lexsort((-rounded(moves.bounds()), -copies, -closes))[:_CANDIDATES]
    moves, closes, copies = moves[order], closes[order], copies[order]
    reached = moves.capacities()
    staying = Candidates(snapshot, moves.who[:1], snapshot.starts[moves.who[:1]])
    before = staying.capacities()
    worths, worth = moves.worths(reached), staying.worths(before)
    helpful = [
        Choice(
            peer_id=snapshot.servers[moves.who[index]].peer_id,
            start=int(moves.starts[index]),
            end=int(moves.ends[index]),
            before=float(before[0]),
            after=float(reached[index]),
            closes=int(closes[index]),
            copies=int(copies[index]),
            gain=float(worths[index] - worth[0]),
        )
        for index in range(len(order))
        if _is_better(closes[index], copies[index], worths[index], worth[0])
    ]
    return max(
        helpful,
        key=lambda choice: (choice.closes, choice.copies, choice.gain, choice.peer_id),
        default=None,
    )


def helps(snapshot: Snapshot, peer_id: str, start: int) -> bool:
    """Return whether the swarm is better off if one of its servers begins at another block.

    Raises:
        ValueError: it is not in the snapshot.
    """
    who = [server.peer_id for server in snapshot.servers].index(peer_id)
    both = Candidates(
        snapshot, np.array([who, who]), np.array([snapshot.servers[who].start, start])
    )
    closes, copies = _mended(snapshot, both)
    stays, moves = both.worths(both.capacities())
    return _is_better(closes[1], copies[1], moves, stays)


def _is_better(closes: int, copies: int, worth: float, before: float) -> bool:
    """Return whether a move is: gaps count first, then copies that are missing, then worth."""
    if closes or copies:
        return bool((closes, copies) > (0, 0))
    return bool(worth > before * (1 + _SAME))


def _mended(snapshot: Snapshot, moves: Candidates) -> tuple[Integers, Integers]:
    """Return how many blocks fewer nobody has, and how many copies fewer are missing.

    Returns:
        both after each move, int64 [moves].
    """
    blocks = np.arange(snapshot.total_blocks)

    def within(starts: Integers, ends: Integers) -> npt.NDArray[np.bool_]:
        return (blocks >= starts[:, np.newaxis]) & (blocks < ends[:, np.newaxis])

    old = within(snapshot.starts[moves.who], snapshot.ends[moves.who])
    after = snapshot.replicas - old + within(moves.starts, moves.ends)
    missing = np.maximum(snapshot.replica_floor - after, 0).sum(1)
    return len(snapshot.holes) - (after == 0).sum(1), snapshot.missing_copies - missing


def _free_to_move(snapshot: Snapshot) -> tuple[Integers, Integers, Integers]:
    """Return who may move, and from where to where its span may begin.

    Of whatever it is the last online copy, is in its new span.

    Returns:
        the indices of servers, the first start of each, the last start of each; int64 [movers].
    """
    if not snapshot.servers:
        none = np.zeros(0, np.int64)
        return none, none, none
    total = snapshot.total_blocks
    blocks = np.arange(total)
    alone = snapshot.online().replicas <= 1
    # The nearest single copy from each boundary on, and the one before it.
    after = np.append(np.minimum.accumulate(np.where(alone, blocks, total)[::-1])[::-1], total)
    before = np.insert(np.maximum.accumulate(np.where(alone, blocks, -1)), 0, -1)
    first, last = after[snapshot.starts], before[snapshot.ends]
    bound = first < snapshot.ends
    lengths = snapshot.ends - snapshot.starts
    lowest = np.where(bound, np.maximum(last + 1 - lengths, 0), 0)
    highest = np.where(bound, first, total)
    gap = bool(snapshot.holes)
    movable = (s.online and not s.fixed and (gap or not s.rests) for s in snapshot.servers)
    able = np.fromiter(movable, bool, len(snapshot.servers))
    beside = np.fromiter((s.beside for s in snapshot.servers), bool, len(snapshot.servers))
    movers = np.flatnonzero(able & (beside | ~bound))
    return movers, lowest[movers], highest[movers]


def _moves(snapshot: Snapshot) -> Candidates:
    """Return the moves that are compared exactly: those that make the swarm most even."""
    movers, lowest, highest = _free_to_move(snapshot)
    most = most_placements(snapshot.total_blocks)
    blocks = np.arange(snapshot.total_blocks)
    starts, ends = snapshot.starts[movers], snapshot.ends[movers]
    rates = snapshot.throughputs[movers]
    own = (blocks >= starts[:, np.newaxis]) & (blocks < ends[:, np.newaxis])
    left = strength(
        np.maximum(snapshot.block_throughput - own * rates[:, np.newaxis], 0),
        snapshot.replicas - own,
        snapshot.replica_floor,
    )
    gains = np.full((len(movers), snapshot.total_blocks), -np.inf)
    for length in np.unique(ends - starts):
        same = np.flatnonzero(ends - starts == length)
        windows = gains_at(left[same], rates[same], int(length))
        gains[same, : windows.shape[1]] = (
            windows - windows[np.arange(len(same)), starts[same], None]
        )
    gains[np.arange(len(movers)), starts] = -np.inf
    gains[(blocks < lowest[:, np.newaxis]) | (blocks > highest[:, np.newaxis])] = -np.inf
    # Those only whose best move is among the first, or there would be millions to put in order.
    first = np.argsort(-rounded(gains.max(1, initial=-np.inf)), kind="stable")[:most]
    gains = gains[first]
    order = np.argsort(-rounded(gains.ravel()), kind="stable")[:most]
    order = order[np.isfinite(gains.ravel()[order])]
    who, targets = np.divmod(order, snapshot.total_blocks)
    return Candidates(snapshot, movers[first[who]], targets)
