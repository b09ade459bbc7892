"""Servers that have died, known before their records expire.

A record of a dead server stands until it expires. Whoever has a connection to that server learns of
its death at once: the connection ends, and nobody answers any more where it was. A lookout keeps
connections to the servers that alone have a block, because their death is what the swarm has to
mend. What it sees only hurries an expiry: a server whose record is still renewed by then is taken
at its word again, so a broken link between two servers moves nobody for longer than that. A host
that disappears without a word, or that cannot be dialled from here, is left to its record.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from runtime.errors import IdentityError, PeerLostError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.shortage import replicas

log = structlog.get_logger()

MOST_WATCHED: Final = 32
"""So many connections at the most; of more servers each is watched by as many others."""
_REDIAL_SECONDS: Final = 0.2
"""A process that ends closes its connections a moment before, or after, it stops listening."""


class Lookout:
    """Watches those servers that the swarm cannot do without."""

    def __init__(
        self,
        me: str,
        until_lost: Callable[[str], Awaitable[None]],
        lifetime_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without a look.

        Args:
            me: the peer id of this server.
            until_lost: dials a server unless that is done, and waits until the connection ends;
                raises PeerLostError or IdentityError where it does not answer.
            lifetime_seconds: of a record that is not renewed.
            clock: gives seconds that never run backwards.
        """
        self._me = me
        self._until_lost = until_lost
        self._lifetime = lifetime_seconds
        self._clock = clock
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._lost: dict[str, float] = {}
        self._news = asyncio.Event()

    def alive(self, servers: Iterable[ServerInfo]) -> tuple[ServerInfo, ...]:
        """Return the servers without those that have died, and watch those that are needed."""
        servers = tuple(servers)
        now = self._clock()
        self._lost = {
            peer_id: since for peer_id, since in self._lost.items() if now - since < self._lifetime
        }
        alive = tuple(server for server in servers if server.peer_id not in self._lost)
        self._watch(needed(alive, self._me))
        return alive

    async def news(self) -> None:
        """Wait until a server has died."""
        await self._news.wait()
        self._news.clear()

    async def stop(self) -> None:
        """Watch nobody any more."""
        watches = tuple(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def _watch(self, peer_ids: tuple[str, ...]) -> None:
        self._watches = {
            peer_id: watch for peer_id, watch in self._watches.items() if not watch.done()
        }
        for peer_id in self._watches.keys() - peer_ids:
            self._watches.pop(peer_id).cancel()
        for peer_id in peer_ids:
            if peer_id not in self._watches:
                self._watches[peer_id] = asyncio.create_task(self._until_dead(peer_id))

    async def _until_dead(self, peer_id: str) -> None:
        was_there = False
        while True:
            try:
                await self._until_lost(peer_id)
            except (PeerLostError, IdentityError) as error:
                if was_there:
                    log.warning("a server has died", peer_id=peer_id, reason=str(error))
                    self._lost[peer_id] = self._clock()
                    self._news.set()
                else:
                    log.debug("a server cannot be watched from here", reason=str(error))
                return
            was_there = True
            await asyncio.sleep(_REDIAL_SECONDS)


def needed(servers: Iterable[ServerInfo], me: str) -> tuple[str, ...]:
    """Return the peer ids of online servers that alone have a block, the first ones after `me`.

    Args:
        servers: of the swarm.
        me: a peer id, which is none of them.
    """
    servers = tuple(server for server in servers if server.state == "online")
    copies = replicas(servers, Span(start=0, end=max((s.end for s in servers), default=0)))
    alone = {
        server.peer_id
        for server in servers
        if server.peer_id != me and 1 in copies[server.start : server.end]
    }
    # Each server begins at another place, so that nobody is watched by all and others by none.
    return tuple(sorted(alone, key=lambda peer_id: (peer_id < me, peer_id))[:MOST_WATCHED])
