"""How many sequences a placement can serve: the largest flow through overlapping spans.

A route may enter and leave a span anywhere, so a server that holds n blocks and makes t steps a
second through all of them can spend its t n blocks a second on those of them where others are
missing. The capacity is the largest rate z, in decode steps of a sequence per second, for which
every block gets z from servers that hold it. The smallest sum of throughputs over a block, which
Petals looks at, is a lower bound of it; the work of all servers over the number of blocks is an
upper bound, and what a perfect placement reaches.

By Hall's theorem z is the least, over all sets of blocks, of the work of the servers that hold one
of them over the number of blocks. Spans are intervals, so the complement of the worst set is a
union of disjoint intervals, whose inner servers are those that cannot help: the least ratio is
found by Dinkelbach's method (Management Science 13, 1967), each round a dynamic programme over
block boundaries, beginning at the least ratio of all single intervals, which mostly is the one.
For one placement this takes O(blocks²) after O(servers).
"""

import functools

import numpy as np

from runtime.balance.snapshot import Floats, Integers, Snapshot

_ROUNDS = 100
_EXACT = 1e-9


@functools.lru_cache(maxsize=256)
def capacity(snapshot: Snapshot) -> float:
    """Return how many decode steps per second all sequences together can make."""
    return float(capacities(enclosed(snapshot)[np.newaxis])[0])


def enclosed(snapshot: Snapshot) -> Floats:
    """Return the work of the servers within [i, j), for all block boundaries i and j.

    Returns:
        float64 [blocks + 1, blocks + 1].
    """
    size = snapshot.total_blocks + 1
    work = np.zeros((size, size))
    np.add.at(work, (snapshot.starts, snapshot.ends), snapshot.works)
    return np.asarray(work[::-1].cumsum(0)[::-1].cumsum(1))


def capacities(enclosed: Floats) -> Floats:
    """Return the capacity of each of several placements.

    Args:
        enclosed: of each placement, float64 [placements, blocks + 1, blocks + 1].

    Returns:
        float64 [placements].
    """
    blocks = enclosed.shape[1] - 1
    everything = enclosed[:, 0, blocks]
    rate = of_single_intervals(enclosed)
    # What is left of rounding where nothing helps a block is no rate.
    rate[rate <= _EXACT * everything / blocks] = 0
    open_ = np.flatnonzero(rate)
    for _ in range(_ROUNDS):
        if not len(open_):
            break
        idle_work, idle_blocks = _idle(enclosed[open_], rate[open_])
        # The set that is left when all blocks are idle says nothing.
        left = np.where(idle_blocks < blocks, blocks - idle_blocks, np.nan)
        tighter = (everything[open_] - idle_work) / left
        better = tighter < rate[open_] * (1 - _EXACT)
        open_, tighter = open_[better], tighter[better]
        rate[open_] = tighter
    return rate


def of_single_intervals(enclosed: Floats) -> Floats:
    """Return the least ratio, over all intervals, of the work that can help it to its length.

    The capacity is no more than that, and mostly the same, and takes ten times as long.

    Args:
        enclosed: of each placement, float64 [placements, blocks + 1, blocks + 1].

    Returns:
        float64 [placements].
    """
    blocks = enclosed.shape[1] - 1
    starts, ends = np.triu_indices(blocks + 1, 1)
    helps = enclosed[:, :1, blocks] - enclosed[:, 0, :][:, starts] - enclosed[:, :, blocks][:, ends]
    return np.asarray((helps / (ends - starts)).min(1, initial=np.inf))


def _idle(enclosed: Floats, rate: Floats) -> tuple[Floats, Integers]:
    """Return the work and length of the disjoint intervals with the most work to spare at a rate.

    Returns:
        (float64 [placements], int64 [placements]).
    """
    count, size, _ = enclosed.shape
    rows = np.arange(count)
    boundaries = np.arange(size)
    need = rate[:, np.newaxis, np.newaxis] * (boundaries[:, np.newaxis] - boundaries)
    # To spare in [start, end), indexed by end first: a row is what one round of the loop reads.
    over = enclosed.transpose(0, 2, 1) - need
    spare = np.zeros((count, size))
    length = np.zeros((count, size), np.int64)
    for end in range(1, size):
        total = spare[:, :end] + over[:, end, :end]
        start = total.argmax(1)
        best = total[rows, start]
        taken = best > spare[:, end - 1]
        spare[:, end] = np.where(taken, best, spare[:, end - 1])
        length[:, end] = np.where(taken, length[rows, start] + end - start, length[:, end - 1])
    return spare[:, -1] + rate * length[:, -1], length[:, -1]
