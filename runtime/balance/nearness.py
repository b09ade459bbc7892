"""Which of several places, where a server helps equally, makes routes short.

Routes are short where the servers of a site hold the whole model among them, and where those at a
site hold blocks behind one another. So a server takes blocks that those near it hold least, and of
these the ones whose neighbours in the pipeline are near: a session comes from a server that has the
block before, and goes on to one that has the block behind; before the first block and behind the
last one there are client sides. Of those that have the block the nearest counts, because routes
take it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.balance.coordinate import SAME_SECONDS, Coordinate
from runtime.balance.evenness import gains_at, rounded
from runtime.balance.snapshot import Floats, Integers, Placed
from runtime.balance.worth import WORTH

_HALF_SECONDS = 0.005
"""A server at the end of a way of this length counts half as one that is near, and so on."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where servers and client sides are, as far as they know it.

    Attributes:
        total_blocks: of the model.
        points: seconds, float64 [servers, (x, y, height)].
        starts: the first block of each, int64 [servers].
        ends: the block behind its last one, int64 [servers].
        throughputs: of each, 0 of a client side, float64 [servers].
        lengths: how many blocks servers hold, those included that do not know their places.
    """

    total_blocks: int
    points: Floats
    starts: Integers
    ends: Integers
    throughputs: Floats
    lengths: frozenset[int]

    @classmethod
    def of(
        cls, total_blocks: int, servers: Iterable[Placed], clients: Iterable[Coordinate] = ()
    ) -> "Places":
        """Return those of servers, and of client sides, which are at both ends of the model."""
        servers = tuple(servers)
        rows = [
            (where, start, end, 0.0)
            for where in clients
            if where.is_known
            for start, end in ((-1, 0), (total_blocks, total_blocks + 1))
        ]
        rows += [
            (server.coordinate, server.start, server.end, server.throughput)
            for server in servers
            if server.coordinate is not None and server.coordinate.is_known
        ]
        return cls(
            total_blocks,
            np.array([(at.x, at.y, at.height) for at, *_ in rows], np.float64).reshape(-1, 3),
            np.array([start for _, start, _, _ in rows], np.int64),
            np.array([end for _, _, end, _ in rows], np.int64),
            np.array([throughput for *_, throughput in rows], np.float64),
            frozenset(server.num_blocks for server in servers),
        )

    def with_server(self, server: Placed) -> "Places":
        """Return them with one server more."""
        other = Places.of(self.total_blocks, [server])
        return Places(
            self.total_blocks,
            np.concatenate([self.points, other.points]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.ends, other.ends]),
            np.concatenate([self.throughputs, other.throughputs]),
            self.lengths | other.lengths,
        )

    def seconds(self, where: Coordinate) -> Floats:
        """Return the seconds one way from a point to each, float64 [servers]."""
        plane = np.hypot(self.points[:, 0] - where.x, self.points[:, 1] - where.y)
        return np.asarray(plane + self.points[:, 2] + where.height)

    def strength(self, seconds: Floats) -> Floats:
        """Return the throughput of those that hold each block, the less the further they are.

        Args:
            seconds: to each, float64 [servers].

        Returns:
            decode steps per second, float64 [blocks].
        """
        rates = self.throughputs * 0.5 ** (_steps(seconds) * (SAME_SECONDS / _HALF_SECONDS))
        steps = np.zeros(self.total_blocks + 1)
        np.add.at(steps, np.clip(self.starts, 0, self.total_blocks), rates)
        np.subtract.at(steps, np.clip(self.ends, 0, self.total_blocks), rates)
        held = np.cumsum(steps)[:-1]
        # What rounding leaves of nothing is nothing.
        return np.where(held > 1e-9 * held.max(initial=0), held, 0.0)


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a server that chooses sees around it.

    Attributes:
        where: it is.
        places: of all others.
        lacking: how many copies more each block should have, int64 [blocks].
    """

    where: Coordinate | None
    places: Places
    lacking: Integers

    @property
    def seconds(self) -> Floats | None:
        """The seconds one way to each of the others; None where they tell nobody from another."""
        if self.where is None or not self.where.is_known or not len(self.places.starts):
            return None
        seconds = self.places.seconds(self.where)
        return seconds if _steps(seconds).any() else None


def best_near(strength: Floats, num_blocks: int, throughput: float, outlook: Outlook) -> int | None:
    """Return the first block of the span where a server that joins helps most; None: any will do.

    Throughputs count as the same within what measurements differ by, and of starts where it helps
    equally then one makes routes shortest. Where nobody is known before or behind the blocks,
    somebody may come: that counts as half of the way to the farthest, so that near neighbours
    attract and far ones do not. Of those within a millisecond it takes the one that is best by
    throughputs as they are, then one at an end of what is as weak, then the leftmost.

    Args:
        strength: of the others' blocks, decode steps per second, float64 [blocks].
        num_blocks: how many blocks it takes.
        throughput: its decode steps per second through so many blocks.
        outlook: of the server.
    """
    seconds, places = outlook.seconds, outlook.places
    if seconds is None:
        return None

    def gains(values: Floats) -> Floats:
        return rounded(gains_at(values[np.newaxis], np.array([throughput]), num_blocks)[0])

    exact, coarse = gains(strength), gains(_coarse(strength))
    # However weak others are: a copy that is missing is no weak one.
    mending = _mends_like(int(exact.argmax()), outlook.lacking, num_blocks)
    equals = np.flatnonzero(mending & (coarse == coarse[mending].max()))
    starts = _tidy(equals, num_blocks, places.lengths)
    near = gains(_coarse(places.strength(seconds)))[starts]
    starts = starts[near == near.max()]
    ways = [
        _to_block(places, seconds, block)
        for start in starts
        for block in (start - 1, start + num_blocks)
    ]
    inside = np.isin(starts - 1, equals) & np.isin(starts + 1, equals)
    order = (starts, inside, -exact[starts], _steps(np.array(ways).reshape(-1, 2).sum(1)))
    return int(starts[np.lexsort(order)[0]])


def _mends_like(best: int, lacking: Integers, num_blocks: int) -> npt.NDArray[np.bool_]:
    """Return of each start whether its blocks lack as many copies, each, as those of the best."""
    levels = lacking == np.arange(1, lacking.max(initial=0) + 1)[:, np.newaxis]
    total = np.concatenate([np.zeros((len(levels), 1), int), levels.cumsum(1)], axis=1)
    counts = total[:, num_blocks:] - total[:, :-num_blocks]
    return np.asarray((counts == counts[:, [best]]).all(0))


def _steps(seconds: Floats) -> Floats:
    """Return ways in whole milliseconds: what differs by less is the same."""
    return np.round(seconds / SAME_SECONDS)


def _coarse(throughputs: Floats) -> Floats:
    """Return throughputs of which those are the same that measurements do not tell apart."""
    held = throughputs > 0
    logarithms = np.log(np.where(held, throughputs, 1.0)) / np.log(WORTH)
    return np.where(held, WORTH ** np.round(logarithms), 0.0)


def _tidy(equals: Integers, num_blocks: int, lengths: frozenset[int]) -> Integers:
    """Return those of equal starts that leave what is as weak in pieces that others can take.

    In one piece, so only the first and the last of each run; in whole spans, where all servers hold
    as many blocks.
    """
    breaks = np.flatnonzero(np.diff(equals) > 1)
    firsts = np.append(equals[0], equals[breaks + 1])
    lasts = np.append(equals[breaks], equals[-1])
    if lengths != {num_blocks}:
        return np.union1d(firsts, lasts)
    runs = np.searchsorted(firsts, equals, "right") - 1
    left, right = equals - firsts[runs], lasts[runs] - equals
    return np.asarray(equals[(left % num_blocks == 0) | (right % num_blocks == 0)])


def _to_block(places: Places, seconds: Floats, block: int) -> float:
    """Return the seconds to the nearest that has a block, or what counts where nobody has it."""
    there = (places.starts <= block) & (block < places.ends)
    return float(seconds[there].min(initial=np.inf) if there.any() else seconds.max() / 2)
