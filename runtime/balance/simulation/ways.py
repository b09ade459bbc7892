"""Servers of a simulated swarm at several sites, and how long a sequence's step takes there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from runtime.balance.coordinate import Coordinate
from runtime.balance.planner import fastest_route
from runtime.balance.simulation.workload import Workload
from runtime.balance.snapshot import Snapshot


def at_sites(workload: Workload, sites: Sequence[Coordinate], seed: int) -> Workload:
    """Return the same servers, each at one of several sites, with the client side at the first.

    Args:
        workload: without sites.
        sites: where they are.
        seed: of who is where.
    """
    draw = np.random.default_rng(seed)
    lives = tuple(
        replace(life, coordinate=sites[int(draw.integers(len(sites)))]) for life in workload.lives
    )
    return replace(workload, lives=lives, client=sites[0])


class RouteTime:
    """The mean over time of what the fastest route takes, while there is one."""

    def __init__(self, workload: Workload) -> None:
        """Begin before the first event."""
        self._client = workload.client
        self._where = {life.peer_id: life.coordinate for life in workload.lives}
        self._now: tuple[float, float] | None = None
        self._sum = self._watched = 0.0

    def watch(self, now: float, serving: Snapshot) -> None:
        """Take note of who serves from now on, at a time in seconds."""
        self._add(now)
        # Where they are, whatever they say.
        placed = (replace(one, coordinate=self._where[one.peer_id]) for one in serving.servers)
        found = fastest_route(Snapshot.of(serving.total_blocks, placed), self._client)
        self._now = None if found is None else (now, found[0])

    def mean(self, end: float) -> float:
        """Return the seconds of one decode step; NaN if no route was ever complete."""
        self._add(end)
        return self._sum / self._watched if self._watched else float("nan")

    def _add(self, now: float) -> None:
        if self._now is not None:
            since, seconds = self._now
            self._sum += (now - since) * seconds
            self._watched += now - since
            self._now = now, seconds
