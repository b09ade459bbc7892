"""What this server knows of the others: how to reach them, and, for a moment, what they serve."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from runtime.spec.stage import StageConfig
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.links import Links
from runtime.swarm.records import ServerInfo
from runtime.swarm.report import Remark

log = structlog.get_logger()

_FRESH_SECONDS = 2


class View:
    """The directory as of a moment ago, and the addresses that the plan chose."""

    def __init__(
        self,
        config: StageConfig,
        look: Callable[[], Awaitable[tuple[ServerInfo, ...]]],
        remarks: Callable[[], tuple[Remark, ...]] = tuple,
        path: Path | None = None,
    ) -> None:
        """Start with an empty view; the first question fills it by looking into the directory.

        Args:
            config: of this server.
            look: returns the records of the servers of this model.
            remarks: returns what the latest look has found wrong with records.
            path: the file of the configuration, if it has one.
        """
        self.remarks = remarks
        self._links = Links(config.peers, path)
        self._look = look
        self._servers: tuple[ServerInfo, ...] = ()
        self._seen = -float("inf")
        self._lock = asyncio.Lock()

    async def servers(self, *, now: bool = False) -> tuple[ServerInfo, ...]:
        """Return the servers of this model, as of at most two seconds ago, or `now`."""
        async with self._lock:
            if now or time.monotonic() - self._seen > _FRESH_SECONDS:
                self._servers = await self._look()
                self._seen = time.monotonic()
        return self._servers

    async def endpoints(self, peer_id: str) -> tuple[Endpoint, ...]:
        """Return where to dial a server: the plan's choice, then what it announces itself."""
        link = self._links.to(peer_id)
        known = () if link is None else (link,)
        found = known + _announced(peer_id, await self.servers())
        if not found:
            # Whoever asks knows of it; it may have joined since the last look.
            found = _announced(peer_id, await self.servers(now=True))
        return tuple(dict.fromkeys(found))


def _announced(peer_id: str, servers: tuple[ServerInfo, ...]) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(address.host, address.rpc_port)
        for server in servers
        if server.peer_id == peer_id
        for address in server.addresses
    )
