"""The swarm as one decision sees it: who serves which blocks, and how fast."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from runtime.balance.coordinate import Coordinate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
EMPTY = 1e-3
"""A block that nobody holds counts as one with this share of the mean throughput."""


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
        coordinate: where it is in the network; None: it does not say.
    """

    peer_id: str
    start: int
    end: int
    throughput: float
    online: bool = True
    fixed: bool = False
    rests: bool = False
    beside: bool = False
    coordinate: Coordinate | None = None

    @property
    def num_blocks(self) -> int:
        """The length of its span."""
        return self.end - self.start


@dataclass(frozen=True)
class Snapshot:
    """Every server of one model at one moment, in the order of their peer ids.

    The order makes sums of floats, and with them decisions, the same on every server that sees the
    same records.

    Attributes:
        total_blocks: of the model.
        servers: who serves, or is about to.
        replica_floor: so many copies every block should have, whatever they serve; 1 or more.
    """

    total_blocks: int
    servers: tuple[Placed, ...]
    replica_floor: int = 1

    @classmethod
    def of(cls, total_blocks: int, servers: Iterable[Placed], replica_floor: int = 1) -> "Snapshot":
        """Return the snapshot of these servers."""
        ordered = tuple(sorted(servers, key=lambda server: server.peer_id))
        return cls(total_blocks, ordered, replica_floor)

    def without(self, peer_id: str) -> "Snapshot":
        """Return it as if a server were not there."""
        return replace(self, servers=tuple(s for s in self.servers if s.peer_id != peer_id))

    def online(self) -> "Snapshot":
        """Return it with those only that take sessions now."""
        return replace(self, servers=tuple(s for s in self.servers if s.online))

    def with_server(self, server: Placed) -> "Snapshot":
        """Return it with a server added, or in the place of its older self."""
        servers = (*self.without(server.peer_id).servers, server)
        return Snapshot.of(self.total_blocks, servers, self.replica_floor)

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
    def strength(self) -> Floats:
        """The block throughput as placement counts it; see `strength`."""
        return strength(self.block_throughput, self.replicas, self.replica_floor)

    @property
    def lacking_copies(self) -> Integers:
        """How many copies more each block should have, int64 [blocks]."""
        return lacking_copies(self.replicas, self.replica_floor)

    @property
    def missing_copies(self) -> int:
        """How many copies more all blocks together should have."""
        return int(self.lacking_copies.sum())

    @property
    def holes(self) -> tuple[int, ...]:
        """The blocks that nobody holds."""
        return tuple(int(block) for block in np.flatnonzero(self.replicas == 0))


def lacking_copies(replicas: Integers, replica_floor: int) -> Integers:
    """Return how many copies more each block should have, int64 [..., blocks]."""
    return np.asarray(np.clip(replica_floor - replicas, 0, replica_floor))


def strength(block_throughput: Floats, replicas: Integers, replica_floor: int) -> Floats:
    """Return throughputs in which every block with too few copies is weaker than any with enough.

    Of those with too few one is the weaker the more copies it lacks, however fast they are; one
    that nobody has is the weakest.

    Args:
        block_throughput: decode steps per second, float64 [..., blocks].
        replicas: who holds each, int64 [..., blocks].
        replica_floor: so many should.
    """
    if replica_floor <= 1:
        return block_throughput
    lacking = lacking_copies(replicas, replica_floor)
    held = np.where(replicas > 0, block_throughput, np.inf)
    smallest = held.min(-1, keepdims=True, initial=np.inf)
    weak = np.where(replicas > 0, smallest * EMPTY ** (lacking / replica_floor), 0.0)
    return np.asarray(np.where(lacking > 0, weak, block_throughput))
