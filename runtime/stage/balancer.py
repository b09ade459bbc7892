"""A balanced server's part in the swarm: the loop that carries out what `Member` decides."""

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec
import numpy as np
import structlog

from runtime.balance.decision import Decision
from runtime.balance.member import Manner, Member
from runtime.balance.placement import Choice
from runtime.balance.seat import Seat
from runtime.errors import PeerLostError
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.swarm.records import Seating, ServerInfo

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
"""At least so long between two looks, whatever fails and is tried again."""
_DRAIN_SECONDS = 600
"""So long a server waits for its sessions to end before it gives up a move."""


class Host(Protocol):
    """What a balancer moves: the server around it."""

    async def load(self, span: Span) -> float:
        """Serve these blocks and no others; return the decode steps per second through them."""

    async def announce(self) -> None:
        """Publish this server's record.

        Raises:
            PeerLostError: discovery does not answer.
        """

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the records of the swarm.

        Raises:
            PeerLostError: discovery does not answer.
        """

    def busy(self) -> bool:
        """Return whether sessions pass through this server."""


class Balancer:
    """Finds blocks for a server, and other ones when the swarm needs them more."""

    def __init__(
        self, config: StageConfig, total_blocks: int, peer_id: str, throughput: float, host: Host
    ) -> None:
        """Prepare; `run` does everything.

        Args:
            config: of the server, with `num_blocks`.
            total_blocks: of the model.
            peer_id: the server's own.
            throughput: what it is expected to make through its blocks, in decode steps per second.
            host: the server.

        Raises:
            ValueError: the configuration does not say how many blocks.
        """
        if config.num_blocks is None:
            raise ValueError("num_blocks is not known")
        manner = Manner(
            total_blocks=total_blocks,
            balance_quality=config.balance_quality,
            mean_balance_check_period=config.mean_balance_check_period,
            renew_seconds=config.announce_period_seconds,
        )
        seat = Seat(peer_id, "reserving", 0, 0, config.num_blocks, throughput, ticket=0)
        self._member = Member(manner, seat, np.random.default_rng())
        self._host = host
        self._said: Seat | None = None
        self._renewed = -float("inf")
        self._loading: asyncio.Task[float] | None = None
        self._load_started = 0.0
        self._drains_since: float | None = None
        self._online = asyncio.Event()

    @property
    def seat(self) -> Seat:
        """What this server tells the others."""
        return self._member.seat

    async def online(self) -> None:
        """Wait until the server serves its first blocks."""
        await self._online.wait()

    async def run(self) -> None:
        """Take part in the swarm until cancelled.

        Raises:
            StagefleetError: blocks could not be loaded.
        """
        joined = False
        try:
            while True:
                try:
                    others = self._seats(await self._host.servers())
                    if not joined:
                        self._member.join(time.monotonic(), others)
                        joined = True
                    await self._step(others)
                except PeerLostError as error:
                    # What has been loaded is served all the same.
                    log.warning("the balance waits for discovery", reason=str(error))
                await self._pause()
        finally:
            if self._loading is not None:
                self._loading.cancel()
                await asyncio.gather(self._loading, return_exceptions=True)

    async def _step(self, others: tuple[Seat, ...]) -> None:
        member, now = self._member, time.monotonic()
        if self._loading is not None and self._loading.done():
            throughput = self._loading.result()
            self._loading = None
            member.loaded(now, now - self._load_started, throughput)
            self._tell_ready()
        member.advance(now, others)
        self._tell_news()
        if member.doing == "draining":
            self._drain(now)
        if member.load is not None and self._loading is None:
            start, end = member.load
            self._load_started = now
            self._loading = asyncio.create_task(self._host.load(Span(start=start, end=end)))
        if member.seat != self._said or now - self._renewed >= member.manner.renew_seconds:
            # Said before it is announced: what fails is said again in the next period.
            self._said, self._renewed = member.record(), now
            await self._host.announce()
            if member.seat.phase == "online":
                # And others can know.
                self._online.set()

    def _drain(self, now: float) -> None:
        if self._drains_since is None:
            self._drains_since = now
        if not self._host.busy():
            self._member.drained()
        elif now - self._drains_since > _DRAIN_SECONDS:
            log.warning("sessions do not end; the move is given up")
            self._member.stay(now)
        else:
            return
        self._drains_since = None

    async def _pause(self) -> None:
        """Wait until there is something to do."""
        member, now = self._member, time.monotonic()
        seconds = min(member.wake, self._renewed + member.manner.renew_seconds) - now
        if member.doing == "draining" or (self._loading is not None and self._loading.done()):
            seconds = 0
        seconds = max(_LOOK_SECONDS, seconds)
        if self._loading is None or self._loading.done():
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait([self._loading], timeout=seconds)

    def _seats(self, servers: Iterable[ServerInfo]) -> tuple[Seat, ...]:
        own = self._member.seat.peer_id
        seats = (seat_of(server) for server in servers if server.peer_id != own)
        return tuple(seat for seat in seats if seat is not None)

    def _tell_ready(self) -> None:
        seat = self._member.seat
        ready = (
            f"Load Balancing server ready, blocks={list(range(seat.start, seat.end))}, "
            f"throughput={seat.throughput:.2f} rps"
        )
        log.info(ready, peer_id=seat.peer_id)

    def _tell_news(self) -> None:
        news = self._member.news
        while news:
            item = news.popleft()
            if isinstance(item, Choice):
                selected = f"Selected blocks: {list(range(item.start, item.end))}"
                log.info(selected, reason=item.reason)
            elif isinstance(item, Decision):
                log.info(str(item), reason=item.reason)
                if item.move is not None:
                    log.info(
                        "Load balancing detected imbalance, will rebalance blocks",
                        to=f"[{item.move.start}, {item.move.end})",
                        reason=item.reason,
                    )


def seat_of(server: ServerInfo) -> Seat | None:
    """Return a server's part in the balance; None for a stage 0 without blocks.

    Servers with fixed splits count where they are, and stay there.
    """
    seating = server.seating
    if seating is None:
        if server.start == server.end:
            return None
        seating = Seating(num_blocks=server.end - server.start)
    return Seat(
        peer_id=server.peer_id,
        phase=server.state,
        start=server.start,
        end=server.end,
        throughput=server.throughput,
        fixed=server.seating is None,
        **msgspec.structs.asdict(seating),
    )


def seating_of(seat: Seat) -> Seating:
    """Return what a record says of a seat beside the blocks and the throughput."""
    return Seating(**{name: getattr(seat, name) for name in Seating.__struct_fields__})
