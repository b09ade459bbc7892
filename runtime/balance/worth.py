"""What a placement is worth: its capacity, and what is left of it when one server more dies.

A lost server is missing until its record has expired, another one has moved and has loaded; so a
part of the time the swarm is one server short, and a placement that bears it is worth more than one
that has the same capacity and does not. With many servers one of them makes no
difference, and is not looked at.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.balance.capacity import capacities, enclosed, of_single_intervals
from runtime.balance.snapshot import Floats, Integers, Snapshot

WORTH: Final = 0.9
"""Above this share of what a change would reach, none is made: measurements are not better."""
SHORT_SHARE: Final = 0.25
"""The share of time in which one server is missing: eight that live an hour, missing for 110 s."""
_MOST_CELLS = 1 << 18
"""Of all matrices that are compared at once: bounds the time, about 20 ms, and the memory."""
_MOST_CELLS_SHORT = 1 << 20
"""The same with each server missing in turn; where it is more, worth is capacity."""


@dataclass(frozen=True)
class Candidates:
    """Some placements that differ from one another in where one server is.

    Attributes:
        rest: the swarm, with those that differ.
        who: of each placement the index in `rest` of who is elsewhere, int64 [placements].
        starts: where it then begins, int64 [placements].
    """

    rest: Snapshot
    who: Integers
    starts: Integers

    def __getitem__(self, which: Integers) -> "Candidates":
        """Return some of them."""
        return Candidates(self.rest, self.who[which], self.starts[which])

    @property
    def ends(self) -> Integers:
        """The block behind the last one of who is elsewhere, int64 [placements]."""
        return self.starts + (self.rest.ends - self.rest.starts)[self.who]

    def bounds(self) -> Floats:
        """Return what the capacity of each is at most, and mostly is, float64 [placements]."""
        return of_single_intervals(self._enclosed())

    def capacities(self) -> Floats:
        """Return the capacity of each, float64 [placements]."""
        return capacities(self._enclosed())

    def worths(self, capacities_: Floats) -> Floats:
        """Return what each is worth, in decode steps per second, float64 [placements].

        Args:
            capacities_: of each.
        """
        size = self.rest.total_blocks + 1
        count, servers = len(self.who), len(self.rest.servers)
        if count * servers * size**2 > _MOST_CELLS_SHORT:
            return capacities_
        starts = np.repeat(self.rest.starts[np.newaxis], count, 0)
        ends = np.repeat(self.rest.ends[np.newaxis], count, 0)
        starts[np.arange(count), self.who] = self.starts
        ends[np.arange(count), self.who] = self.ends
        works = np.broadcast_to(self.rest.works, (count, servers))
        short = self._enclosed()[:, np.newaxis] - _inside(starts, ends, works, size)
        left = capacities(np.maximum(short, 0).reshape(-1, size, size)).reshape(count, servers)
        return np.asarray((1 - SHORT_SHARE) * capacities_ + SHORT_SHARE * left.mean(1))

    def _enclosed(self) -> Floats:
        size = self.rest.total_blocks + 1
        works = self.rest.works[self.who]
        rest = self.rest
        before = _inside(rest.starts[self.who], rest.ends[self.who], works, size)
        after = _inside(self.starts, self.ends, works, size)
        return np.asarray(np.maximum(enclosed(rest) - before, 0) + after)


def most_placements(total_blocks: int) -> int:
    """Return how many placements of a model of so many blocks may be compared at once."""
    return max(1, _MOST_CELLS // (total_blocks + 1) ** 2)


def _inside(starts: Integers, ends: Integers, works: Floats, size: int) -> Floats:
    """Return what one server adds to `enclosed`, float64 [..., size, size]."""
    boundaries = np.arange(size)
    left = np.where(boundaries <= starts[..., np.newaxis], works[..., np.newaxis], 0.0)
    right = boundaries >= ends[..., np.newaxis]
    return np.asarray(left[..., :, np.newaxis] * right[..., np.newaxis, :])
