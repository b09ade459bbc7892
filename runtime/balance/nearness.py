"""Which of several places is near to those with whom a server would exchange hidden states.

A session comes from a server that has the block before, and goes on to one that has the block
behind; before the first block and behind the last one there are client sides. Of those that have
the block the nearest counts, because routes take it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtime.balance.coordinate import SAME_SECONDS, Coordinate
from runtime.balance.snapshot import Floats, Integers, Placed


@dataclass(frozen=True, eq=False)
class Places:
    """Where servers and client sides are, as far as they know it.

    Attributes:
        points: seconds, float64 [servers, (x, y, height)].
        starts: the first block of each, int64 [servers].
        ends: the block behind its last one, int64 [servers].
    """

    points: Floats
    starts: Integers
    ends: Integers

    @classmethod
    def of(
        cls, total_blocks: int, servers: Iterable[Placed], clients: Iterable[Coordinate] = ()
    ) -> "Places":
        """Return those of servers, and of client sides, which are at both ends of the model."""
        rows = [
            (where, start, end)
            for where in clients
            if where.is_known
            for start, end in ((-1, 0), (total_blocks, total_blocks + 1))
        ]
        rows += [
            (server.coordinate, server.start, server.end)
            for server in servers
            if server.coordinate is not None and server.coordinate.is_known
        ]
        return cls(
            np.array([(at.x, at.y, at.height) for at, _, _ in rows]).reshape(-1, 3),
            np.array([start for _, start, _ in rows], np.int64),
            np.array([end for _, _, end in rows], np.int64),
        )

    def with_server(self, server: Placed) -> "Places":
        """Return them with one server more, if it knows where it is."""
        other = Places.of(0, [server])
        if not len(other.starts):
            return self
        return Places(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.ends, other.ends]),
        )

    def seconds(self, where: Coordinate) -> Floats:
        """Return the seconds one way from a point to each, float64 [servers]."""
        plane = np.hypot(self.points[:, 0] - where.x, self.points[:, 1] - where.y)
        return np.asarray(plane + self.points[:, 2] + where.height)


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a server that chooses sees around it.

    Attributes:
        where: it is.
        places: of all others.
        said: the first block that it has said it would take; None: it has said nothing yet.
    """

    where: Coordinate | None
    places: Places
    said: int | None = None

    @property
    def is_clear(self) -> bool:
        """Whether it tells one place from another."""
        return self.where is not None and self.where.is_known and len(self.places.starts) > 0


def nearest(equals: Integers, num_blocks: int, outlook: Outlook) -> int:
    """Return at which of several starts, at which a server helps equally, it begins.

    Only the first and the last of each run of starts are compared, so that what is free stays in
    one piece. It keeps to what it has said, so that it comes to rest whatever others say. Where
    nobody is known before or behind the blocks, somebody may come: that counts as half of the way
    to the farthest, so that near neighbours attract and far ones do not. The leftmost of those
    within a millisecond; of all, where places are unknown.

    Args:
        equals: the starts, ascending, int64 [starts].
        num_blocks: how many blocks it takes.
        outlook: of the server.
    """
    where = outlook.where
    if where is None or not outlook.is_clear or len(equals) == 1:
        return int(equals[0])
    breaks = np.flatnonzero(np.diff(equals) > 1)
    firsts, lasts = np.append(equals[0], equals[breaks + 1]), np.append(equals[breaks], equals[-1])
    candidates = np.union1d(firsts, lasts)
    if outlook.said is not None and outlook.said in candidates:
        return outlook.said
    seconds = outlook.places.seconds(where)
    ways = [
        _to_block(outlook.places, seconds, block)
        for start in candidates
        for block in (start - 1, start + num_blocks)
    ]
    steps = np.round(np.array(ways).reshape(-1, 2).sum(1) / SAME_SECONDS)
    return int(candidates[steps.argmin()])


def _to_block(places: Places, seconds: Floats, block: int) -> float:
    """Return the seconds to the nearest that has a block, or what counts where nobody has it."""
    there = (places.starts <= block) & (block < places.ends)
    return float(seconds[there].min(initial=np.inf) if there.any() else seconds.max() / 2)
