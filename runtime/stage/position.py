"""Where this server is in the network, learnt from the ways that it really uses.

The kernel measures every connection to a neighbour. That is not enough where nobody generates
anything, so who may reach all others also dials a few of them now and then, on the addresses that
sessions would take, and hangs up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog

from runtime.balance.coordinate import first, located, worth_saying
from runtime.errors import StagefleetError
from runtime.swarm.records import ServerInfo

log = structlog.get_logger()

MOST_DIALLED: Final = 8
"""So many servers each dials by and by: enough to place it, and each is dialled by as many."""
_BEGIN_SECONDS: Final = 2
"""A newcomer that has not reached a server within this time chooses its blocks without it."""


class Position:
    """One server's coordinate.

    Attributes:
        said: what it announces; changes only when it is another place, or far more certain.
    """

    def __init__(
        self,
        me: str,
        dial: Callable[[str], Awaitable[float | None]] | None,
        latencies: Callable[[], Mapping[str, float]],
        look: Callable[[], Awaitable[tuple[ServerInfo, ...]]],
    ) -> None:
        """Begin without a measurement.

        Args:
            me: the peer id of this server.
            dial: returns the seconds one way to a server, if the kernel tells; raises a
                StagefleetError where it does not answer; None: this one may not reach all.
            latencies: returns the same of all servers to which there are connections.
            look: returns the servers of the swarm; raises a StagefleetError where nobody tells.
        """
        self._me = me
        self._dial = dial
        self._latencies = latencies
        self._look = look
        self._now = self.said = first(me)
        self._dialled: dict[str, float] = {}
        self._turn = 0

    async def begin(self) -> None:
        """Find out where it is among servers before it is one of them; takes seconds at most."""
        servers = await self._seen()
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                await asyncio.gather(*map(self._measure, self._others(servers)))
        except TimeoutError:
            log.debug("not every server could be measured in time")
        self._learn(servers)

    async def keep_measuring(self, period_seconds: float) -> None:
        """Measure one server after the other and follow; runs until it is cancelled.

        Args:
            period_seconds: between two measurements.
        """
        while True:
            await asyncio.sleep(period_seconds)
            servers = await self._seen()
            others = self._others(servers)
            if others:
                self._turn += 1
                await self._measure(others[self._turn % len(others)])
            self._learn(servers)

    async def _seen(self) -> tuple[ServerInfo, ...]:
        try:
            return await self._look()
        except StagefleetError as error:
            log.debug("no other servers are known now", reason=str(error))
            return ()

    def _others(self, servers: Iterable[ServerInfo]) -> tuple[str, ...]:
        """Return the peer ids of those that it dials: the first ones behind it, and then around."""
        if self._dial is None:
            return ()
        # Client sides answer nobody but their own servers.
        ids = sorted(
            (one.peer_id for one in servers if one.state == "online" and one.stage > 0),
            key=lambda peer_id: (peer_id < self._me, peer_id),
        )
        return tuple(peer_id for peer_id in ids if peer_id != self._me)[:MOST_DIALLED]

    async def _measure(self, peer_id: str) -> None:
        if self._dial is None:
            return
        try:
            seconds = await self._dial(peer_id)
        except StagefleetError as error:
            log.debug("a server cannot be measured from here", reason=str(error))
            return
        if seconds is not None:
            self._dialled[peer_id] = seconds

    def _learn(self, servers: Iterable[ServerInfo]) -> None:
        """Follow what has been measured to servers that are there."""
        there = {
            server.peer_id: server.coordinate
            for server in servers
            if server.coordinate is not None and server.peer_id != self._me
        }
        self._dialled = {one: seconds for one, seconds in self._dialled.items() if one in there}
        measured = self._dialled | dict(self._latencies())
        self._now = located(
            self._now,
            [(where, measured[one]) for one, where in sorted(there.items()) if one in measured],
        )
        if worth_saying(self.said, self._now):
            self.said = self._now
            log.debug("this server is elsewhere", coordinate=str(self.said))
