"""How fast a server computes: what was measured at its start, kept true by the steps it serves.

What a server announces has to say how much it could serve, not how much it serves: by it routes
are chosen and blocks are placed. So only computing counts, not the time that a step waits for
others: those who choose count the sessions themselves, and a busy server that called itself slow
would lose its blocks to an idle one. And a step is compared with what a step of its kind (so many
sequences, so many of the blocks, with the head or without) took when the server started, so that
the same server says the same whatever it is asked for.
"""

import math
from dataclasses import dataclass
from typing import Final

_STEPS = 32
_WINDOW_NS = 1_000_000_000
_LEAST_STEPS = 2
_QUARTER = 4
"""The lower quartile counts, here as at the start: what else a host does makes steps longer."""

LEAST_WEIGHT: Final = 0.25
MOST_WEIGHT: Final = 0.5
FADING_SECONDS: Final = 10.0
STALE_SECONDS: Final = 30.0
"""So long after the last step it is worth measuring again."""
STEADY: Final = 0.05
"""A change by less is none: two measurements of the same server differ by as much."""


@dataclass(frozen=True)
class Rates:
    """What a server measured at its start.

    Attributes:
        step_seconds: a decode step of one sequence through all its blocks.
        head_seconds: the head and the choice of a token for one sequence; 0 without a head.
        batch: sequences in the largest batch that its memory and its configuration allow.
        batch_seconds: a decode step of that batch through all its blocks.
        prefill: tokens per second of one sequence, many at once.
    """

    step_seconds: float
    head_seconds: float = 0.0
    batch: int = 1
    batch_seconds: float = 0.0
    prefill: float = 0.0

    @property
    def throughput(self) -> float:
        """Decode steps per second of one sequence, through everything that the server has."""
        return 1 / (self.step_seconds + self.head_seconds)

    @property
    def batch_decode(self) -> float:
        """Tokens per second of all sequences of the largest batch together."""
        return self.batch / (self.batch_seconds or self.step_seconds)

    @property
    def sequence_share(self) -> float:
        """What each further sequence adds to a step, as a share of the first one's; 0 or more."""
        if self.batch <= 1:
            return 1.0
        return max(0.0, self.batch_seconds / self.step_seconds - 1) / (self.batch - 1)


class Pace:
    """An exponentially weighted moving average of how much longer steps take than at the start.

    Steps are gathered in windows; the lower quartile of a window is averaged with those before it,
    in logarithms, so that becoming slower and recovering count alike (Roberts, Control chart tests
    based on geometric moving averages, Technometrics 1, 1959). The longer ago the window before,
    the more a window weighs, within bounds: no single one decides.
    """

    def __init__(self, rates: Rates, blocks: int, now_ns: int) -> None:
        """Begin with what was measured.

        Args:
            rates: of the server, measured now.
            blocks: how many it has, at least one.
            now_ns: the owner's monotonic clock, in nanoseconds.
        """
        self.rates = rates
        self._block_ns = rates.step_seconds * 1e9 / blocks
        self._head_ns = rates.head_seconds * 1e9
        self._share = rates.sequence_share
        self._slowness = 0.0
        self._window: list[tuple[int, int, int, bool]] = []
        self._window_ns = 0
        self._closed_ns = now_ns

    @property
    def throughput(self) -> float:
        """Decode steps per second that one sequence gets from the server as it is now."""
        return self.rates.throughput * math.exp(-self._slowness)

    def saw(self, blocks: int, batch: int, duration_ns: int, now_ns: int, *, head: bool) -> None:
        """Take a decode step into account.

        Args:
            blocks: of the server, that it ran through.
            batch: how many sequences it had.
            duration_ns: how long it was computed.
            now_ns: the owner's clock at its end.
            head: it ended with the head.
        """
        if not blocks:
            return
        self._window.append((duration_ns, blocks, batch, head))
        self._window_ns += duration_ns
        steps = len(self._window)
        if steps >= _STEPS or (self._window_ns >= _WINDOW_NS and steps >= _LEAST_STEPS):
            self.settle(now_ns)

    def settle(self, now_ns: int) -> None:
        """Take into account what has been seen since the last window, however little it is."""
        if not self._window:
            return
        seen = sorted(self._longer(*step) for step in self._window)[len(self._window) // _QUARTER]
        fresh = 1 - math.exp((self._closed_ns - now_ns) / 1e9 / FADING_SECONDS)
        weight = min(max(fresh, LEAST_WEIGHT), MOST_WEIGHT)
        self._slowness += weight * (math.log(max(seen, 1e-9)) - self._slowness)
        self._window.clear()
        self._window_ns = 0
        self._closed_ns = now_ns

    def _longer(self, duration_ns: int, blocks: int, batch: int, head: bool) -> float:
        """Return how many times as long a step took as it would have at the start."""
        one = blocks * self._block_ns + (self._head_ns if head else 0.0)
        return duration_ns / (one * (1 + (batch - 1) * self._share))

    def is_stale(self, now_ns: int) -> bool:
        """Return whether nothing has been learnt for long."""
        return now_ns - self._closed_ns >= STALE_SECONDS * 1e9


def steady(said: float, measured: float) -> float:
    """Return what to announce: what was said, as long as it is about true."""
    if said > 0 and abs(measured - said) <= STEADY * said:
        return said
    return measured
