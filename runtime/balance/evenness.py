"""How even a placement is: the sum of T⁻ᵖ over the blocks, T being the throughput over a block."""

import numpy as np

from runtime.balance.snapshot import EMPTY, Floats


def gains_at(block_throughput: Floats, throughput: Floats, num_blocks: int) -> Floats:
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
    inverse = 1 / np.maximum(share, EMPTY)
    third = inverse * inverse * inverse
    sixth = third * third
    return np.asarray(sixth * sixth)


def rounded(values: Floats) -> Floats:
    """Return values of which those that differ by rounding only are equal."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return np.round(values / largest, 9) if largest > 0 else values
