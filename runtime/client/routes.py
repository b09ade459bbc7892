"""The routes of stage 0's sessions: what the swarm says of servers, and what stage 0 has seen."""

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import structlog

from runtime.balance.coordinate import Coordinate, known_distance
from runtime.balance.path import HOP_SECONDS
from runtime.client.attempts import PAUSE_SECONDS
from runtime.errors import NoAnswerError, PeerLostError, RouteError, StagefleetError
from runtime.spec.base import Span
from runtime.swarm.bans import Bans
from runtime.swarm.belief import Paces, Part, believed
from runtime.swarm.records import ServerInfo
from runtime.swarm.routing import (
    Experience,
    Leg,
    declared_work,
    route,
)
from runtime.swarm.shortage import will_end
from runtime.swarm.view import View

log = structlog.get_logger()


@dataclass(frozen=True)
class Route:
    """The legs of one session, and the bytes that it takes on each for keys and values."""

    legs: tuple[Leg, ...]
    block_kv_bytes: int

    @property
    def peer_ids(self) -> tuple[str, ...]:
        """The servers, in order."""
        return tuple(leg.server.peer_id for leg in self.legs)


class Routes:
    """Chooses servers for sessions, and keeps count of the sessions that are open on each."""

    def __init__(
        self,
        view: View,
        span: Span,
        latencies: Callable[[], Mapping[str, float]],
        coordinate: Callable[[], Coordinate | None] = lambda: None,
    ) -> None:
        """Start without a session.

        Args:
            view: the swarm's records.
            span: the blocks behind stage 0's own.
            latencies: seconds one way to the servers to which that was measured.
            coordinate: where stage 0 is in the network, if it knows.
        """
        self._view = view
        self._span = span
        self._latencies = latencies
        self._coordinate = coordinate
        self._bans = Bans(time.monotonic)
        self._sessions: Counter[str] = Counter()
        self._kv_bytes: Counter[str] = Counter()
        self._paces = Paces(time.monotonic)
        self._complete = -math.inf

    @property
    def sessions(self) -> dict[str, int]:
        """The sessions that are open on each server, by peer id."""
        return dict(self._sessions)

    @property
    def kv_bytes(self) -> dict[str, int]:
        """What these may take for keys and values, by peer id."""
        return dict(self._kv_bytes)

    async def choose(
        self, block_kv_bytes: int = 0, avoided: Set[str] = frozenset(), *, now: bool = False
    ) -> Route:
        """Return the fastest route for one more session.

        Args:
            block_kv_bytes: what it takes for keys and values, for each block.
            avoided: servers to avoid besides those that are banned.
            now: look into the directory first.

        Raises:
            RouteError: the pipeline is not complete.
            PeerLostError: discovery does not answer.
        """
        servers = await self._view.servers(now=now) if len(self._span) else ()
        experience = Experience(
            sessions=self._sessions,
            kv_bytes=self._kv_bytes,
            latency=self._latencies(),
            coordinate=self._coordinate(),
            avoided=self._bans.banned() | avoided,
            observed=self._observed(servers),
        )
        legs = route(servers, self._span, experience, block_kv_bytes)
        self._complete = time.monotonic()
        return Route(legs, block_kv_bytes)

    async def await_route(
        self,
        patience: float,
        block_kv_bytes: int = 0,
        avoided: Set[str] = frozenset(),
        *,
        now: bool = False,
    ) -> Route:
        """Return what `choose` does, once it does: a pipeline that lacks blocks may soon have them.

        Nobody waits where blocks are missing that have been missing, and that nobody is about to
        serve.

        Args:
            patience: seconds to wait at the most.
            block_kv_bytes: as for `choose`.
            avoided: as for `choose`.
            now: as for `choose`.

        Raises:
            RouteError: the pipeline is not complete.
            PeerLostError: discovery does not answer.
        """
        started = time.monotonic()
        while True:
            try:
                return await self.choose(block_kv_bytes, avoided, now=now)
            except RouteError as error:
                was_complete = started - self._complete < patience
                hope = was_complete or will_end(await self._view.servers(), self._span)
                if not hope or time.monotonic() - started > patience:
                    raise
                if not now:
                    log.info("a session waits for blocks", reason=str(error), seconds=patience)
            now = True
            await asyncio.sleep(PAUSE_SECONDS)

    def observe(self, chosen: Route, seconds: float) -> None:
        """Learn from what a decode step of an open session has taken.

        Args:
            chosen: the session's route.
            seconds: of a step of one sequence, from its token to the next one.
        """
        network = self._network_seconds([leg.server for leg in chosen.legs])
        parts = [
            Part(
                leg.server.peer_id,
                # Sessions share a server, and each waits for the others there.
                (leg.end - leg.start) * max(1, self._sessions[leg.server.peer_id]),
                declared_work(leg.server),
            )
            for leg in chosen.legs
        ]
        self._paces.observe(parts, seconds - network)

    def _network_seconds(self, servers: Sequence[ServerInfo]) -> float:
        """Return what hops and ways take of a decode step through these servers."""
        if not servers:
            return 0.0
        known = Experience(latency=self._latencies(), coordinate=self._coordinate())
        ways = [known.way(servers[0]), known.way(servers[-1])]
        for one, other in itertools.pairwise(servers):
            told = known_distance(one.coordinate, other.coordinate)
            # The way from here is no worse a guess than none.
            ways.append(known.way(other) if told is None else told)
        return len(ways) * HOP_SECONDS + sum(ways)

    def believed(self, server: ServerInfo) -> float:
        """Return a server's throughput as routes reckon with it, in decode steps per second."""
        blocks = server.end - server.start
        observed = self._observed((server,)).get(server.peer_id)
        seen = None if observed is None else observed / blocks
        return believed(server.throughput, seen)

    def _observed(self, servers: Iterable[ServerInfo]) -> dict[str, float]:
        """Return the blocks a second that were seen of each server."""
        found = (
            (server.peer_id, self._paces.observed(server.peer_id, declared_work(server)))
            for server in servers
            if server.start < server.end
        )
        return {peer_id: observed for peer_id, observed in found if observed is not None}

    def take(self, chosen: Route) -> None:
        """Count a session on its servers."""
        for leg in chosen.legs:
            self._sessions[leg.server.peer_id] += 1
            self._kv_bytes[leg.server.peer_id] += _kv_bytes(chosen, leg)

    def give_back(self, chosen: Route) -> None:
        """Count a session no more."""
        for leg in chosen.legs:
            peer_id = leg.server.peer_id
            self._sessions[peer_id] -= 1
            self._kv_bytes[peer_id] -= _kv_bytes(chosen, leg)
            if not self._sessions[peer_id]:
                del self._sessions[peer_id], self._kv_bytes[peer_id]

    def blame(self, error: StagefleetError, chosen: Route) -> None:
        """Ban the servers of a route that were lost or said nothing; others did what they should.

        Nobody knows which server of a route keeps silent, so all are avoided for a while.
        """
        if isinstance(error, NoAnswerError):
            at_fault: tuple[str, ...] = chosen.peer_ids
        elif isinstance(error, PeerLostError) and error.peer_id in chosen.peer_ids:
            at_fault = (error.peer_id,)
        else:
            return
        for peer_id in at_fault:
            self._bans.blame(peer_id)

    def praise(self, chosen: Route) -> None:
        """Forgive the servers of a route that has served a session to its end."""
        self._complete = time.monotonic()
        for peer_id in chosen.peer_ids:
            self._bans.forgive(peer_id)


def _kv_bytes(chosen: Route, leg: Leg) -> int:
    return (leg.end - leg.start) * chosen.block_kv_bytes
