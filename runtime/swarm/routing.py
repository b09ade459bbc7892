"""Which servers a session passes through: a pure choice over what is known of them.

Spans may overlap, and a route enters and leaves them where it likes: it is the shortest path over
pairs of a block and a server, in seconds for one decode step.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from runtime.balance.coordinate import Coordinate
from runtime.balance.path import HOP_SECONDS, Costs, cheapest, points, way
from runtime.balance.snapshot import Integers
from runtime.errors import RouteError
from runtime.spec.base import Span
from runtime.swarm.belief import believed
from runtime.swarm.records import ServerInfo
from runtime.swarm.shortage import shortages

LAST_RESORT_SECONDS: Final = 1e6
"""Beyond any real path: taken only where no other server has the blocks."""

# A server that announces no speed still has one.
_SLOWEST_STEPS = 1e-3
# Bounds the time for swarms in which fast spans lie inside slow ones by the dozen.
_SEARCHES = 32

# Of each block of the span, the servers that may run it, as indices.
_Candidates = tuple[Integers, ...]


@dataclass(frozen=True)
class Leg:
    """The blocks `[start, end)` of a route, and the server that runs them."""

    server: ServerInfo
    start: int
    end: int


@dataclass(frozen=True)
class Experience:
    """What stage 0 knows of servers beside their records, each by peer id.

    Attributes:
        sessions: sessions of its own that are open there.
        kv_bytes: what these may take for keys and values.
        latency: seconds one way between it and the server, where that was measured.
        coordinate: where it is in the network, if it knows; tells latencies that were not measured.
        avoided: servers that failed lately; they are taken only where there is no other.
        observed: the blocks a second that its sessions have seen of it.
    """

    sessions: Mapping[str, int] = field(default_factory=dict)
    kv_bytes: Mapping[str, int] = field(default_factory=dict)
    latency: Mapping[str, float] = field(default_factory=dict)
    coordinate: Coordinate | None = None
    avoided: frozenset[str] = frozenset()
    observed: Mapping[str, float] = field(default_factory=dict)

    def way(self, server: ServerInfo) -> float:
        """Return the seconds one way between stage 0 and a server, as far as that is known."""
        measured = self.latency.get(server.peer_id)
        return way(self.coordinate, server.coordinate) if measured is None else measured


def route(
    servers: Iterable[ServerInfo],
    span: Span,
    experience: Experience | None = None,
    block_kv_bytes: int = 0,
) -> tuple[Leg, ...]:
    """Return the legs of the fastest route that runs every block of `span` once, in order.

    A block takes 1 / (throughput * blocks of the span) seconds on a server, or more where stage 0
    has seen that it is slower by far (`runtime.swarm.belief`), times 1 + the sessions there, so
    that sessions spread over replicas in proportion to their throughput. A hop takes its
    latency, which between two servers their coordinates tell, and what is done at both ends. No
    server is passed through twice. Servers that failed lately, or that have no room for the session
    in as many of the blocks as they hold, are taken only where there is no other: the record may be
    old, and the server has the last word. Of equals the smaller peer id wins, so that the choice
    depends on the arguments alone.

    Args:
        servers: the swarm's records, one for each peer id.
        span: the blocks to run.
        experience: what stage 0 knows beside the records; None: nothing.
        block_kv_bytes: what the session takes for keys and values, for each block.

    Raises:
        RouteError: which blocks nobody serves.
    """
    known = tuple(servers)
    usable = sorted(
        (server for server in known if _can_run_some(server, span)),
        key=lambda server: server.peer_id,
    )
    candidates: _Candidates = tuple(
        np.array([n for n, server in enumerate(usable) if server.start <= block < server.end])
        for block in range(span.start, span.end)
    )
    missing = shortages((server for server in known if server.stage > 0), span)
    if missing:
        gaps = ", ".join(str(shortage.blocks) for shortage in missing)
        raise RouteError(
            f"no chain of servers covers blocks {span}: nobody serves {gaps}",
            hint="\n  -> ".join(map(str, missing)),
        )
    costs = _costs(usable, span, experience or Experience(), block_kv_bytes)
    path = _best_path(costs, candidates)
    return tuple(
        Leg(usable[index], span.start + start, span.start + end)
        for index, start, end in _runs(path)
    )


def declared_work(server: ServerInfo) -> float:
    """Return the blocks a second that a server with blocks says it runs, at least a few."""
    return max(server.throughput, _SLOWEST_STEPS) * (server.end - server.start)


def _can_run_some(server: ServerInfo, span: Span) -> bool:
    """Return whether a server takes sessions and has a block of the span; stage 0s take none."""
    overlap = max(server.start, span.start) < min(server.end, span.end)
    return server.state == "online" and server.stage > 0 and overlap


def _costs(
    servers: list[ServerInfo], span: Span, experience: Experience, block_kv_bytes: int
) -> Costs:
    """Return what servers cost the steps of one more session."""

    def block(server: ServerInfo) -> float:
        blocks_a_second = believed(declared_work(server), experience.observed.get(server.peer_id))
        return (1 + experience.sessions.get(server.peer_id, 0)) / blocks_a_second

    def last_resort(server: ServerInfo) -> float:
        blocks = min(server.end, span.end) - max(server.start, span.start)
        free = server.kv_bytes - experience.kv_bytes.get(server.peer_id, 0)
        avoided = server.peer_id in experience.avoided or blocks * block_kv_bytes > free
        return LAST_RESORT_SECONDS if avoided else 0.0

    to_stage_0 = np.array([experience.way(server) + HOP_SECONDS for server in servers])
    entering = np.array([last_resort(server) for server in servers])
    return Costs(
        block=np.array([block(server) for server in servers]),
        enter=to_stage_0 + entering,
        onto=entering + HOP_SECONDS,
        leave=to_stage_0,
        points=points(server.coordinate for server in servers),
    )


def _best_path(costs: Costs, candidates: _Candidates) -> tuple[int, ...]:
    """Return the cheapest server for each block such that no server is left and entered again.

    Branch and bound: the cheapest path of all, if it enters a server again, is replaced by the
    cheapest of each way not to.
    """
    if not candidates:
        return ()
    order = itertools.count()
    waiting = [(*cheapest(costs, candidates), next(order), candidates)]
    for _ in range(_SEARCHES):
        _, path, _, candidates = waiting[0]
        again = _entered_again(path)
        if again is None:
            return path
        heapq.heappop(waiting)
        for allowed in _ways_out(candidates, *again):
            if all(map(len, allowed)):
                heapq.heappush(waiting, (*cheapest(costs, allowed), next(order), allowed))
    return _straightened(waiting[0][1])


def _entered_again(path: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return a server that is entered again, where it is left, and where it is entered again."""
    left: dict[int, int] = {}
    for server, start, end in _runs(path):
        if server in left:
            return server, left[server], start
        left[server] = end - 1
    return None


def _ways_out(candidates: _Candidates, server: int, left: int, again: int) -> Iterator[_Candidates]:
    """Yield every way not to run block `left` and then, after others, block `again` on a server."""

    def without(able: Integers) -> Integers:
        return np.asarray(able[able != server])

    yield (*candidates[:again], *map(without, candidates[again:]))
    yield (*map(without, candidates[: left + 1]), *candidates[left + 1 :])
    between = candidates[left : again + 1]
    if all(server in able for able in between):
        alone = np.array([server])
        yield (*candidates[:left], *(alone for _ in between), *candidates[again + 1 :])


def _straightened(path: tuple[int, ...]) -> tuple[int, ...]:
    """Return the path in which a server that is entered again runs what lies between as well."""
    while (again := _entered_again(path)) is not None:
        server, left, entered = again
        path = (*path[:left], *(server for _ in range(left, entered)), *path[entered:])
    return path


def _runs(path: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Yield each server of a path with the places `[start, end)` that it has in it."""
    start = 0
    for server, places in itertools.groupby(path):
        end = start + len(list(places))
        yield server, start, end
        start = end
