"""The rule that Petals publishes for placing and rebalancing servers: the yardstick for ours.

Source: petals/server/block_selection.py, in the words of its paper (Borzunov et al. 2023, section
3.2). It looks at the smallest throughput over a block, and lets every server decide alone whether
the swarm would be better if everybody chose anew.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from runtime.balance.snapshot import Floats, Snapshot

_EPS = 1e-3
_MOST_PASSES = 50
"""The published loop has no bound; this one ends what would not end by itself."""


def published_start(block_throughput: Floats, num_blocks: int) -> int:
    """Return the start whose weakest block is weakest, then its second weakest, and so on."""
    windows = np.sort(sliding_window_view(block_throughput, num_blocks), axis=1)
    return int(np.lexsort(windows.T[::-1])[0])


def published_should_move(
    snapshot: Snapshot, peer_id: str, balance_quality: float, seed: int
) -> bool:
    """Return whether a server should choose other blocks, as Petals decides it.

    Args:
        snapshot: the whole swarm, servers that still load counted fully.
        peer_id: the server that asks.
        balance_quality: move if the smallest throughput is below this share of what it could be.
        seed: of the order in which the others are imagined to move.
    """
    if balance_quality > 1:
        return True
    throughput = snapshot.block_throughput.copy()
    spans = {s.peer_id: (s.start, s.num_blocks, s.throughput) for s in snapshot.servers}
    initial = throughput.min()
    start, length, own = spans[peer_id]
    throughput[start : start + length] -= own * (1 + _EPS)
    if initial > _EPS and throughput.min() <= 0:
        return False
    best = published_start(throughput, length)
    if best == start:
        return False
    throughput[start : start + length] += own * _EPS
    throughput[best : best + length] += own
    starts = {peer: span[0] for peer, span in spans.items()} | {peer_id: best}
    _settle(throughput, spans, starts, seed)
    new = throughput.min()
    if new < initial or new < _EPS:
        return False
    return bool(initial / new < balance_quality - _EPS)


def _settle(
    throughput: Floats,
    spans: dict[str, tuple[int, int, float]],
    starts: dict[str, int],
    seed: int,
) -> None:
    """Let all servers move until none wants to, in random order."""
    order = list(starts)
    draw = np.random.default_rng(seed)
    for _ in range(_MOST_PASSES):
        draw.shuffle(order)
        moved = False
        for peer in order:
            _, length, own = spans[peer]
            start = starts[peer]
            throughput[start : start + length] -= own * (1 + _EPS)
            best = published_start(throughput, length)
            throughput[start : start + length] += own * _EPS
            throughput[best : best + length] += own
            moved = moved or best != start
            starts[peer] = best
        if not moved:
            return
