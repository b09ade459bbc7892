"""How much of a server's own word on its speed is believed.

A record's throughput is the word of its owner. Routes and placements rest on it, so one server that
says a million would draw every session of the swarm to itself. Two bounds hold that down:

- Beside the others: nobody is believed more than `MOST_TIMES_MEDIAN` times the median of the rest,
  in blocks a second, so that spans of any length compare. One liar, or a minority of them, does not
  move the median; the fastest GPU beside the slowest CPU that serve one model stays within it.
- By what is seen: stage 0 times the steps of its sessions and works out what each server on their
  routes takes (`Paces`). Nobody is believed more than `TRUST` times that. A server that is slower
  than it says for a while, because it has other work, stays within it.

Nobody is believed more than it says. What is left to a liar is a share of sessions `TRUST` times
its own, from the first few sessions on.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from runtime.swarm.records import ServerInfo

MOST_TIMES_MEDIAN: Final = 100.0
TRUST: Final = 3.0
HALF_LIFE_SECONDS: Final = 300.0
"""What was seen counts half after this time: a server that was slow is tried again."""
_MOST_SERVERS = 1000


def believed(declared: float, observed: float | None) -> float:
    """Return how fast a server is taken to be.

    Args:
        declared: what it says, in any unit.
        observed: what was seen of it, in the same unit; None if nothing was.
    """
    return declared if observed is None else min(declared, TRUST * observed)


def bounded(servers: Iterable[ServerInfo]) -> tuple[ServerInfo, ...]:
    """Return the records with no throughput out of all proportion to the others.

    Whoever sees the same records gets the same result. With one server there is nothing to compare.
    """
    servers = tuple(servers)
    works = {server.peer_id: _work(server) for server in servers if _work(server) > 0}
    if len(works) < 2:
        return servers
    limits = _limits(works)
    return tuple(
        server
        if works.get(server.peer_id, 0.0) <= limits.get(server.peer_id, math.inf)
        else msgspec.structs.replace(server, throughput=limits[server.peer_id] / _blocks(server))
        for server in servers
    )


def _limits(works: Mapping[str, float]) -> dict[str, float]:
    """Return for each server so many times the median of the others."""
    ordered = sorted(works.values())
    places = {work: place for place, work in enumerate(ordered)}
    return {
        peer_id: MOST_TIMES_MEDIAN * _median_without(ordered, places[work])
        for peer_id, work in works.items()
    }


def _median_without(ordered: list[float], place: int) -> float:
    """Return the median of ascending numbers of which one is left out."""
    count = len(ordered) - 1

    def nth(index: int) -> float:
        return ordered[index if index < place else index + 1]

    return (nth((count - 1) // 2) + nth(count // 2)) / 2


def _work(server: ServerInfo) -> float:
    """Return the blocks a second that a server says it runs; 0 if it has none."""
    return server.throughput * _blocks(server)


def _blocks(server: ServerInfo) -> int:
    # Who reserves has no blocks yet, and says how fast it will be through so many.
    return server.end - server.start or (server.seating.num_blocks if server.seating else 0)


@dataclass(frozen=True)
class Part:
    """What one server does in every step of a session.

    Attributes:
        peer_id: who it is.
        blocks: how many blocks it runs, once for each session that shares it.
        declared: what it says, in blocks a second, above 0.
    """

    peer_id: str
    blocks: int
    declared: float


@dataclass
class _Pace:
    excess: float
    at: float


class Paces:
    """The seconds that each server takes for a block, worked out from the steps of whole routes.

    The time of a step is the sum of what the servers of its route take. Every step is one equation
    in their paces, and each brings the estimates as near to it as the smallest change does
    (Kaczmarz's method). One route alone cannot tell which of its servers is slow; the routes that
    share some of them can. No estimate is faster than what the server says itself.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start without an observation; `clock` gives seconds that never run backwards."""
        self._clock = clock
        self._paces: dict[str, _Pace] = {}

    def observe(self, parts: Iterable[Part], seconds: float) -> None:
        """Learn from the time that the servers of a route took for a step, the network left out."""
        parts = tuple(parts)
        weight = sum(part.blocks**2 for part in parts)
        if not weight or not math.isfinite(seconds):
            return
        now = self._clock()
        excesses = {part.peer_id: self._excess(part.peer_id, now) for part in parts}
        expected = sum(part.blocks * (1 / part.declared + excesses[part.peer_id]) for part in parts)
        change = (max(seconds, 0.0) - expected) / weight
        for part in parts:
            excess = max(0.0, excesses[part.peer_id] + part.blocks * change)
            self._paces.pop(part.peer_id, None)
            self._paces[part.peer_id] = _Pace(excess, now)
        while len(self._paces) > _MOST_SERVERS:
            del self._paces[next(iter(self._paces))]

    def observed(self, peer_id: str, declared: float) -> float | None:
        """Return the blocks a second that were seen of a server; None if nothing was.

        Args:
            peer_id: who it is.
            declared: what it says, in blocks a second, above 0.
        """
        if peer_id not in self._paces:
            return None
        return 1 / (1 / declared + self._excess(peer_id, self._clock()))

    def _excess(self, peer_id: str, now: float) -> float:
        """Return the seconds that a server takes for a block beyond what it says."""
        pace = self._paces.get(peer_id)
        if pace is None:
            return 0.0
        faded: float = pace.excess * 0.5 ** ((now - pace.at) / HALF_LIFE_SECONDS)
        return faded
