"""Stage 0's eye on the swarm: looks now and then, says what has changed, and reports on request."""

import asyncio
import time

import structlog

from runtime.client.routes import Routes
from runtime.client.session import Node
from runtime.errors import PeerLostError
from runtime.spec.base import Span
from runtime.swarm.history import History
from runtime.swarm.overview import Known, overview, serving_us
from runtime.swarm.records import ServerInfo
from runtime.swarm.report import Event, SwarmReport

log = structlog.get_logger()

_LEAST_SECONDS = 5.0
"""Between two looks that nobody has asked for."""


class Watch:
    """What stage 0 has seen of the swarm so far."""

    def __init__(self, node: Node, routes: Routes) -> None:
        """Start without a look.

        Args:
            node: stage 0.
            routes: knows its sessions.
        """
        self._node = node
        self._routes = routes
        self._history = History(Span(start=0, end=node.worker.engine.total_blocks))
        # Each server says something at least once in a period, and most of its steps take longer.
        period = node.checked.config.announce_period_seconds
        self._period_seconds = max(period, _LEAST_SECONDS)

    async def run(self) -> None:
        """Look at the swarm until cancelled."""
        while True:
            try:
                await self._look()
            except PeerLostError as error:
                log.debug("the swarm cannot be looked at", reason=str(error))
            await asyncio.sleep(self._period_seconds)

    async def report(self) -> SwarmReport:
        """Return how the swarm is now, and what happened lately.

        Raises:
            PeerLostError: discovery does not answer.
        """
        servers = await self._look()
        known = Known(
            at=time.time(),
            own=self._node.record(),
            servers=servers,
            sessions=self._routes.sessions,
            kv_bytes=self._routes.kv_bytes,
            observed={server.peer_id: self._routes.believed(server) for server in servers},
            latency=self._node.neighbours.latencies(),
            replica_floor=self._node.checked.config.replica_floor,
            remarks=self._node.view.remarks(),
            events=self._history.events,
        )
        # A large swarm takes a while, and sessions go on meanwhile.
        return await asyncio.to_thread(overview, known)

    async def _look(self) -> tuple[ServerInfo, ...]:
        servers = await self._node.view.servers()
        counted = serving_us(servers, self._node.record())
        for event in self._history.take(counted, time.time()):
            _tell(event)
        return servers


def _tell(event: Event) -> None:
    said = f"swarm: {event}"
    if event.kind == "gap":
        log.warning(said, hint="what would help: ./fleet swarm")
    elif event.kind == "covered":
        log.info(said)
    else:
        log.info(said, peer_id=event.peer_id)
