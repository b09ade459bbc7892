"""Where a server helps most: one that joins, and one that could move.

A server that joins goes where it makes the swarm most even: where the sum of T⁻ᵖ over the blocks
falls most, T being the throughput over a block. The weakest blocks dominate that sum, the others
still count, and whatever joins or leaves next finds no worse than even. A server that moves is
paid for with the time it loads, so a move is judged by the capacity that it adds (see `capacity`);
evenness picks the few moves for which that is computed.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

from runtime.balance.capacity import capacities, capacity, enclosed
from runtime.balance.snapshot import Floats, Integers, Placed, Snapshot

_CANDIDATES = 8
"""So many placements are compared exactly."""
_EMPTY = 1e-3
"""A block that nobody holds counts as one with this share of the mean throughput."""
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
    """

    peer_id: str
    start: int
    end: int
    before: float
    after: float
    closes: int

    @property
    def reason(self) -> str:
        """Why there, in words."""
        if self.closes:
            return f"nobody serves {self.closes} of these blocks"
        if self.after > self.before * (1 + _SAME):
            return f"the swarm's capacity goes from {self.before:.2f} to {self.after:.2f} rps"
        return "these blocks are the weakest"


def choose_best_blocks(
    snapshot: Snapshot, peer_id: str, num_blocks: int, throughput: float
) -> Choice:
    """Return where a server that holds `num_blocks` blocks helps most.

    Args:
        snapshot: the others; what it says of the server itself does not count.
        peer_id: the server.
        num_blocks: how many blocks it holds.
        throughput: its decode steps per second through so many blocks.

    Raises:
        ValueError: the model has fewer blocks.
    """
    others = snapshot.without(peer_id)
    starts = _starts(others, num_blocks)
    gains = _gains(others.block_throughput[np.newaxis], np.array([throughput]), num_blocks)[0]
    # The leftmost of equals, so that what is free stays in one piece.
    start = int(starts[_rounded(gains).argmax()])
    placed = Placed(peer_id, start, start + num_blocks, throughput)
    return Choice(
        peer_id=peer_id,
        start=start,
        end=start + num_blocks,
        before=capacity(others),
        after=capacity(others.with_server(placed)),
        closes=int((others.replicas[start : placed.end] == 0).sum()),
    )


@functools.lru_cache(maxsize=4)
def best_move(snapshot: Snapshot) -> Choice | None:
    """Return the move of one server that helps most, or None if none helps.

    No server leaves blocks of which it is the last online copy, and none moves that still loads or
    is fixed.
    """
    movers = _free_to_move(snapshot)
    if not len(movers):
        return None
    gains, targets = _moves(snapshot, movers)
    shortlist = np.argsort(-_rounded(gains), kind="stable")[:_CANDIDATES]
    before = capacity(snapshot)
    moved = [
        snapshot.with_server(_moved(snapshot.servers[int(movers[index])], int(targets[index])))
        for index in shortlist
    ]
    after = capacities(np.stack([enclosed(each) for each in moved]))
    holes = len(snapshot.holes)
    helpful = []
    for index, each, reached in zip(shortlist, moved, after, strict=True):
        server, start = snapshot.servers[int(movers[index])], int(targets[index])
        closes = holes - len(each.holes)
        if closes > 0 or (closes == 0 and reached > before * (1 + _SAME)):
            end = start + server.num_blocks
            helpful.append(Choice(server.peer_id, start, end, before, float(reached), closes))
    return max(
        helpful, key=lambda choice: (choice.closes, choice.after, choice.peer_id), default=None
    )


def _moved(server: Placed, start: int) -> Placed:
    return replace(server, start=start, end=start + server.num_blocks)


def _starts(snapshot: Snapshot, num_blocks: int) -> Integers:
    if not 1 <= num_blocks <= snapshot.total_blocks:
        raise ValueError(f"{num_blocks} blocks of a model that has {snapshot.total_blocks}")
    return np.arange(snapshot.total_blocks - num_blocks + 1)


def _free_to_move(snapshot: Snapshot) -> Integers:
    """Return the indices of those that may move, and are not the last online copy of a block."""
    if not snapshot.servers:
        return np.zeros(0, np.int64)
    copies = snapshot.online().replicas
    # The number of single copies before each boundary tells whether a span has one.
    singles = np.concatenate([[0], np.cumsum(copies <= 1)])
    movable = (s.online and not s.fixed for s in snapshot.servers)
    able = np.fromiter(movable, bool, len(snapshot.servers))
    return np.flatnonzero(able & (singles[snapshot.ends] == singles[snapshot.starts]))


def _moves(snapshot: Snapshot, movers: Integers) -> tuple[Floats, Integers]:
    """Return how much evenness each server's best move gains, and where it leads."""
    blocks = np.arange(snapshot.total_blocks)
    starts, ends = snapshot.starts[movers], snapshot.ends[movers]
    rates = snapshot.throughputs[movers]
    own = (blocks >= starts[:, np.newaxis]) & (blocks < ends[:, np.newaxis])
    left = np.maximum(snapshot.block_throughput - own * rates[:, np.newaxis], 0)
    gains = np.zeros(len(movers))
    targets = np.zeros(len(movers), np.int64)
    for length in np.unique(ends - starts):
        same = np.flatnonzero(ends - starts == length)
        windows = _gains(left[same], rates[same], int(length))
        targets[same] = windows.argmax(1)
        gains[same] = windows.max(1) - windows[np.arange(len(same)), starts[same]]
    return gains, targets


def _gains(block_throughput: Floats, throughput: Floats, num_blocks: int) -> Floats:
    """Return how much evenness a server would add at each start.

    Args:
        block_throughput: of the others, float64 [cases, blocks].
        throughput: of the server, float64 [cases].
        num_blocks: of the server.

    Returns:
        float64 [cases, starts].
    """
    mine = throughput[:, np.newaxis]
    scale = block_throughput.mean(1, keepdims=True) + mine
    gain = _badness(block_throughput / scale) - _badness((block_throughput + mine) / scale)
    total = np.concatenate([np.zeros((len(gain), 1)), np.cumsum(gain, 1)], axis=1)
    return np.asarray(total[:, num_blocks:] - total[:, :-num_blocks])


def _badness(share: Floats) -> Floats:
    """Return share⁻¹²; the power by multiplication, which is much faster."""
    inverse = 1 / np.maximum(share, _EMPTY)
    third = inverse * inverse * inverse
    sixth = third * third
    return np.asarray(sixth * sixth)


def _rounded(values: Floats) -> Floats:
    """Return values of which those that differ by rounding only are equal."""
    largest = np.abs(values).max(initial=0)
    return np.round(values / largest, 9) if largest > 0 else values
