"""A balanced server's part in the swarm: the loop that carries out what `Member` decides."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol

import msgspec
import numpy as np
import structlog

from runtime.balance.coordinate import Coordinate
from runtime.balance.decision import Decision
from runtime.balance.member import Manner, Member
from runtime.balance.placement import Choice
from runtime.balance.seat import Seat
from runtime.errors import PeerLostError, StagefleetError
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.swarm.records import MOST_TEXT, Seating, ServerInfo

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
"""At least so long between two looks, whatever fails and is tried again."""
DRAIN_SECONDS: Final = 600
"""So long a server that moves waits for sessions to end; then it stays, or they have to move."""


class Host(Protocol):
    """What a balancer moves: the server around it."""

    async def load(self, span: Span) -> float:
        """Serve these blocks and no others; return the decode steps per second through them."""

    async def load_beside(self, span: Span) -> float:
        """Load these blocks while the others serve; return the same of them."""

    def switch(self) -> None:
        """Serve what was loaded beside instead of the others, whose sessions go on."""

    def drop(self) -> None:
        """Forget what was loaded beside."""

    def keeps_both(self) -> bool:
        """Return whether there is memory to load other blocks beside those that serve."""

    def throughput(self) -> float:
        """Return the decode steps per second through the blocks that are loaded, as of now."""

    def coordinate(self) -> Coordinate:
        """Return where this server is in the network, as far as it knows."""

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

    async def news(self) -> None:
        """Wait until the servers are other ones than at the last look."""

    def busy(self) -> bool:
        """Return whether sessions pass through this server."""


class Balancer:
    """Finds blocks for a server, and other ones when the swarm needs them more."""

    def __init__(self, config: StageConfig, total_blocks: int, seat: Seat, host: Host) -> None:
        """Prepare; `run` does everything.

        Args:
            config: of the server.
            total_blocks: of the model.
            seat: what the server will ask for: see `wanting`.
            host: the server.
        """
        manner = Manner(
            total_blocks=total_blocks,
            replica_floor=config.replica_floor,
            balance_quality=config.balance_quality,
            mean_balance_check_period=config.mean_balance_check_period,
            renew_seconds=config.announce_period_seconds,
        )
        self._member = Member(manner, seat, np.random.default_rng())
        self._host = host
        self._said: Seat | None = None
        self._is_told = True
        self._renewed = -float("inf")
        self._loading: asyncio.Task[float] | None = None
        self._load_started = 0.0
        self._load_span: tuple[int, int] | None = None
        self._beside: Span | None = None
        self._serves: tuple[int, int] | None = None
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
                    # What is seen may be as old as the question.
                    asked = time.monotonic()
                    others = self._seats(await self._host.servers())
                    self._member.located(self._host.coordinate())
                    if not joined:
                        self._member.join(asked, others)
                        joined = True
                    await self._step(asked, others)
                except PeerLostError as error:
                    # What has been loaded is served all the same.
                    log.warning("the balance waits for discovery", reason=str(error))
                await self._pause()
        finally:
            await self._stop_loading()

    async def _step(self, asked: float, others: tuple[Seat, ...]) -> None:
        member, now = self._member, time.monotonic()
        if self._loading is not None and self._loading.done():
            loading, self._loading = self._loading, None
            self._loaded(now, loading)
        if member.seat.phase in {"online", "draining"}:
            member.measured(self._host.throughput())
        if member.doing in {"idle", "claiming"}:
            member.manner = replace(member.manner, keeps_both=self._host.keeps_both())
        if self._is_told:
            member.advance(asked, others)
        self._tell_news()
        self._settle_beside()
        self._tell_ready()
        if member.doing == "draining":
            self._drain(now)
        else:
            self._drains_since = None
        await self._tell(now)
        if member.load is not None and (self._loading is None or member.load != self._load_span):
            await self._stop_loading()
            self._load(member.load)

    async def _tell(self, now: float) -> None:
        """Announce what is new, or that nothing is; the member's waits begin when others can know.

        What could not be announced is said again, and until then nothing is decided.
        """
        member = self._member
        is_new = member.seat != self._said or not self._is_told
        if not is_new and now - self._renewed < member.manner.renew_seconds:
            return
        self._said, self._renewed, self._is_told = member.record(), now, False
        await self._host.announce()
        self._is_told = True
        if is_new:
            member.told_late(time.monotonic() - now)
        if member.seat.phase == "online":
            self._online.set()

    async def _stop_loading(self) -> None:
        """Give up what is being loaded, and wait until its memory is free."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None

    def _load(self, wanted: tuple[int, int]) -> None:
        self._load_started, self._load_span = time.monotonic(), wanted
        span = Span(start=wanted[0], end=wanted[1])
        beside = self._member.seat.target is not None
        self._beside = span if beside else None
        work = self._host.load_beside(span) if beside else self._host.load(span)
        self._loading = asyncio.create_task(work)

    def _loaded(self, now: float, loading: asyncio.Task[float]) -> None:
        """Let the member know what was loaded, or, beside what it still serves, could not be."""
        try:
            throughput = loading.result()
        except (StagefleetError, MemoryError, RuntimeError, OSError) as error:
            if self._beside is None:
                raise
            # torch says that memory is used up by a RuntimeError.
            log.warning("the move is given up: the blocks were not loaded", reason=str(error))
            self._beside = self._member.load = None
            self._member.stay(now)
            return
        self._member.loaded(now, now - self._load_started, throughput)

    def _settle_beside(self) -> None:
        """Serve or forget what was loaded beside, as the member has decided."""
        seat = self._member.seat
        if self._beside is None or self._loading is not None or seat.target is not None:
            return
        span, self._beside = self._beside, None
        if (seat.start, seat.end) == (span.start, span.end):
            self._host.switch()
        else:
            log.info("the move is given up: the swarm needs it no more")
            self._host.drop()

    def _drain(self, now: float) -> None:
        if self._drains_since is None:
            self._drains_since = now
        if not self._host.busy():
            self._member.drained()
        elif now - self._drains_since > DRAIN_SECONDS:
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
        news = asyncio.create_task(self._host.news())
        loading = () if self._loading is None or self._loading.done() else (self._loading,)
        try:
            await asyncio.wait(
                (news, *loading), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            news.cancel()

    def _seats(self, servers: Iterable[ServerInfo]) -> tuple[Seat, ...]:
        own = self._member.seat.peer_id
        seats = (seat_of(server) for server in servers if server.peer_id != own)
        return tuple(seat for seat in seats if seat is not None)

    def _tell_ready(self) -> None:
        seat = self._member.seat
        serves = (seat.start, seat.end) if seat.phase == "online" else None
        before, self._serves = self._serves, serves
        if serves in {None, before}:
            return
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


def wanting(peer_id: str, num_blocks: int, throughput: float) -> Seat:
    """Return the seat of a server that is about to ask for blocks.

    Args:
        peer_id: the server's own.
        num_blocks: how many it takes.
        throughput: what it is expected to make through them, in decode steps per second.
    """
    return Seat(peer_id, "reserving", 0, 0, num_blocks, throughput, ticket=0)


def seat_of(server: ServerInfo) -> Seat | None:
    """Return a server's part in the balance; None for one that leaves or has no part.

    Servers with fixed splits count where they are, and stay there. A stage 0 without blocks is
    where sessions come from.
    """
    seating = server.seating
    match server.state:
        case "leaving" | "gone":
            return None
        case phase:
            pass
    blocks = server.end - server.start
    if seating is None and not blocks and server.stage > 0:
        return None
    part = {} if seating is None else msgspec.structs.asdict(seating)
    return Seat(
        peer_id=server.peer_id,
        phase=phase,
        start=server.start,
        end=server.end,
        throughput=server.throughput,
        fixed=seating is None,
        coordinate=server.coordinate,
        client=server.stage == 0,
        **({"num_blocks": blocks, "ticket": 0} | part),
    )


def seating_of(seat: Seat) -> Seating:
    """Return what a record says of a seat beside the blocks and the throughput."""
    fields = {name: getattr(seat, name) for name in Seating.__struct_fields__}
    return Seating(**fields | {"reason": seat.reason[:MOST_TEXT]})
