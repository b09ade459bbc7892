"""The swarm as one decision sees it: who serves which blocks, and how fast."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Placed:
    """A server and the blocks it serves, or is about to serve.

    Attributes:
        peer_id: who it is.
        start: its first block.
        end: the block behind its last one.
        throughput: decode steps per second that it makes through its whole span.
        online: it takes sessions; otherwise it loads.
        fixed: it never moves.
        rests: it moves only where blocks are missing.
        beside: it loads other blocks beside those it serves, so what is in both is always served.
    """

    peer_id: str
    start: int
    end: int
    throughput: float
    online: bool = True
    fixed: bool = False
    rests: bool = False
    beside: bool = False

    @property
    def num_blocks(self) -> int:
        """The length of its span."""
        return self.end - self.start


@dataclass(frozen=True)
class Snapshot:
    """Every server of one model at one moment, in the order of their peer ids.

    The order makes sums of floats, and with them decisions, the same on every server that sees the
    same records.
    """

    total_blocks: int
    servers: tuple[Placed, ...]

    @classmethod
    def of(cls, total_blocks: int, servers: Iterable[Placed]) -> "Snapshot":
        """Return the snapshot of these servers."""
        return cls(total_blocks, tuple(sorted(servers, key=lambda server: server.peer_id)))

    def without(self, peer_id: str) -> "Snapshot":
        """Return it as if a server were not there."""
        return replace(self, servers=tuple(s for s in self.servers if s.peer_id != peer_id))

    def online(self) -> "Snapshot":
        """Return it with those only that take sessions now."""
        return replace(self, servers=tuple(s for s in self.servers if s.online))

    def with_server(self, server: Placed) -> "Snapshot":
        """Return it with a server added, or in the place of its older self."""
        return Snapshot.of(self.total_blocks, (*self.without(server.peer_id).servers, server))

    @cached_property
    def starts(self) -> Integers:
        """The first block of each server."""
        return np.fromiter((s.start for s in self.servers), np.int64, len(self.servers))

    @cached_property
    def ends(self) -> Integers:
        """The block behind the last one of each server."""
        return np.fromiter((s.end for s in self.servers), np.int64, len(self.servers))

    @cached_property
    def throughputs(self) -> Floats:
        """The throughput of each server."""
        return np.fromiter((s.throughput for s in self.servers), np.float64, len(self.servers))

    @cached_property
    def works(self) -> Floats:
        """What each server computes at most, in blocks times decode steps per second."""
        return self.throughputs * (self.ends - self.starts)

    @cached_property
    def block_throughput(self) -> Floats:
        """The sum of the throughputs of those that hold a block, for each block."""
        steps = np.zeros(self.total_blocks + 1)
        np.add.at(steps, self.starts, self.throughputs)
        np.subtract.at(steps, self.ends, self.throughputs)
        # What rounding leaves of nothing is nothing.
        return np.where(self.replicas > 0, np.cumsum(steps)[:-1], 0.0)

    @cached_property
    def replicas(self) -> Integers:
        """How many servers hold a block, for each block."""
        steps = np.zeros(self.total_blocks + 1, np.int64)
        np.add.at(steps, self.starts, 1)
        np.subtract.at(steps, self.ends, 1)
        return np.cumsum(steps)[:-1]

    @property
    def holes(self) -> tuple[int, ...]:
        """The blocks that nobody holds."""
        return tuple(int(block) for block in np.flatnonzero(self.replicas == 0))
