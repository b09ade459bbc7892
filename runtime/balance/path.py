"""The fastest way through servers that hold each block, in seconds for one decode step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.balance.coordinate import Coordinate, known_distance
from runtime.balance.snapshot import Floats, Integers

HOP_SECONDS: Final = 0.0008
"""What a hop takes beside computing and the network (docs/reference/benchmarks.md)."""
UNKNOWN_LATENCY_SECONDS: Final = 0.0002
"""One way, where nobody has measured: a local network's, so that servers are tried, not shunned."""
_MANY = 1 << 12
"""With more pairs of servers it is worth while to leave out those that cannot be the best."""


@dataclass(frozen=True, eq=False)
class Costs:
    """What a sequence's step takes, in seconds, each by the index of a server.

    Attributes:
        block: for each block that it runs, float64 [servers].
        enter: to it from where the sequence begins, float64 [servers].
        onto: to it from another server, beside the way between the two, float64 [servers].
        leave: from it to where the sequence ends, float64 [servers].
        points: where it is, (x, y, height), NaN where that is not known, float64 [servers, 3].
    """

    block: Floats
    enter: Floats
    onto: Floats
    leave: Floats
    points: Floats

    def between(self, here: Integers, there: Integers) -> Floats:
        """Return the ways between servers, as far as places tell, float64 [here or 1, there]."""
        if np.isnan(self.points[here, 0]).all() or np.isnan(self.points[there, 0]).all():
            return np.full((1, len(there)), UNKNOWN_LATENCY_SECONDS)
        one, other = self.points[here, np.newaxis], self.points[np.newaxis, there]
        plane = np.hypot(one[..., 0] - other[..., 0], one[..., 1] - other[..., 1])
        seconds = plane + (one[..., 2] + other[..., 2])
        return np.where(np.isnan(seconds), UNKNOWN_LATENCY_SECONDS, seconds)


def way(one: Coordinate | None, other: Coordinate | None) -> float:
    """Return the seconds one way between two servers, as far as their places tell."""
    known = known_distance(one, other)
    return UNKNOWN_LATENCY_SECONDS if known is None else known


def points(coordinates: Iterable[Coordinate | None]) -> Floats:
    """Return where servers are as `Costs` has it."""
    rows = [
        (at.x, at.y, at.height) if at is not None and at.is_known else (np.nan,) * 3
        for at in coordinates
    ]
    return np.array(rows, np.float64).reshape(-1, 3)


def cheapest(costs: Costs, candidates: Sequence[Integers]) -> tuple[float, tuple[int, ...]]:
    """Return the seconds and the servers of the fastest path, were it free to enter any again.

    Of equals the smaller index wins.

    Args:
        costs: of the servers.
        candidates: of each block, one or more, the indices of those that may run it, one or more,
            ascending.
    """
    # From the end to the start: what is still to come once a block has reached each server, and
    # where the block behind it runs then.
    there = candidates[-1]
    seconds = costs.leave[there] + costs.block[there]
    onward: list[tuple[Integers, Integers]] = []
    for here in reversed(candidates[:-1]):
        best, switched = _switched(costs, seconds, here, there)
        place = np.minimum(np.searchsorted(there, here), len(there) - 1)
        staying = np.where(there[place] == here, seconds[place], np.inf)
        stays = staying <= switched
        onward.append((here, np.where(stays, here, best)))
        seconds = costs.block[here] + np.where(stays, staying, switched)
        there = here
    entered = seconds + costs.enter[there]
    first = entered.argmin()
    path = [int(there[first])]
    for here, following in reversed(onward):
        path.append(int(following[np.searchsorted(here, path[-1])]))
    return float(entered[first]), tuple(path)


def _switched(
    costs: Costs, seconds: Floats, here: Integers, there: Integers
) -> tuple[Integers, Floats]:
    """Return to which of the next servers each goes best, and what is to come then."""
    onto = seconds + costs.onto[there]
    if len(here) * len(there) > _MANY:
        # Nobody goes to one that is worse, were it beside it, than the best is for the farthest.
        least = onto.argmin()
        worst = onto[least] + costs.between(here, there[least : least + 1]).max()
        useful = onto <= worst
        onto, there = onto[useful], there[useful]
    total = onto + costs.between(here, there)
    best = total.argmin(1)
    return there[best], total[np.arange(len(best)), best]
