"""A server's process: what it starts, in which order, and how it ends."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Literal

import structlog

from runtime import __version__
from runtime.balance.coordinate import Coordinate
from runtime.checks.config import Checked
from runtime.client.generation import Client
from runtime.client.mailbox import Mailboxes
from runtime.client.once import print_answer
from runtime.client.prompts import Tokenizer
from runtime.client.session import Node
from runtime.engine.worker import Worker
from runtime.errors import PeerLostError
from runtime.gateway.api import Gateway
from runtime.spec.base import Span
from runtime.stage.balancer import DRAIN_SECONDS, Balancer, seating_of, wanting
from runtime.stage.blocks import NONE, Blocks, num_blocks
from runtime.stage.health import MOVING, MOVING_STATES
from runtime.stage.lifeline import Lifeline
from runtime.stage.lookout import Lookout
from runtime.stage.notify import notify
from runtime.stage.position import Position
from runtime.stage.sessions import StageSessions
from runtime.stage.source import SpanSource, configured
from runtime.stage.terms import terms
from runtime.stage.twin import refuse_twin
from runtime.stage.weights import weights
from runtime.swarm.directory import Directory
from runtime.swarm.membership import Membership
from runtime.swarm.records import Announced, ServerInfo, State
from runtime.swarm.view import View
from runtime.wire.messages import Status
from runtime.wire.neighbours import Neighbours

log = structlog.get_logger()

# Together less than a supervisor waits before it kills (runtime.spec.units).
_LEAVE_SECONDS = 5
_WORD_SECONDS = 1


class Server:
    """One stage's server, from its configuration to its end."""

    def __init__(self, checked: Checked, spans: SpanSource | None = None) -> None:
        """Prepare everything that can fail without touching the network.

        Args:
            checked: the configuration.
            spans: says which blocks to serve; None: the configuration does.

        Raises:
            IdentityError: a key or certificate is missing, expired or of another fleet.
            ConfigError: there is no memory for the blocks, or no such device.
        """
        config = checked.config
        self._checked = checked
        self._spans = configured(checked) if spans is None else spans
        self._balancer: Balancer | None = None
        self._balancing: asyncio.Task[None] | None = None
        self._blocks = Blocks(checked)
        self._num_blocks = 0 if self._spans is not None else num_blocks(checked)
        self._membership = Membership(checked.identity, config.fleet)
        self._state: State = "joining"
        self._lifeline = Lifeline()
        self._directory = Directory(
            config,
            checked.identity,
            self._membership,
            checked.manifest.digest,
            checked.manifest.total_blocks,
            started=self._lifeline.hold,
        )
        self._view = View(config, self._directory.servers, self._directory.remarks, checked.path)
        self._terms = terms(checked, self._membership)
        self._neighbours = Neighbours(
            self._terms,
            self._view.endpoints,
            self.status,
            config.connect_timeout_seconds,
        )
        self._lookout = Lookout(
            self._membership.peer_id,
            self._neighbours.until_lost,
            config.record_seconds,
        )
        # With fixed splits, firewalls let a server reach the next one only.
        reaches_all = self._spans is None or config.stage == 0
        self._position = Position(
            self._membership.peer_id,
            self._neighbours.measured if reaches_all else None,
            self._neighbours.latencies,
            self._view.servers,
        )
        self._mailboxes = Mailboxes()
        self._background: list[asyncio.Task[None]] = []
        self._sessions: StageSessions | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._last_words: Literal["leaving", "gone"] | None = None

    def status(self) -> Status:
        """Return how this server is."""
        worker = self._blocks.worker
        # Once it has served, a balanced server that loads or lets sessions end does so to move.
        moves = None not in (self._balancer, self._sessions) and self._state in MOVING_STATES
        return Status(
            state=MOVING if moves else self._state,
            sessions=len(self._mailboxes if self._sessions is None else self._sessions),
            kv_used_bytes=worker.kv_used_bytes if worker else 0,
            kv_total_bytes=worker.kv_total_bytes if worker else 0,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT or, with a prompt, until it has been answered.

        Raises:
            StagefleetError: the prompt cannot be answered.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with self.serving() as client, contextlib.AsyncExitStack() as stack:
            config = self._checked.config
            if client is not None and config.prompt is None:
                gateway = Gateway(client, self.status, config.gateway_port)
                await stack.enter_async_context(gateway)
            notify("READY=1")
            ends = [stop.wait(), self._broken()]
            if client is not None and config.prompt is not None:
                ends.append(print_answer(client, config))
            await _first_of(*ends)
            notify("STOPPING=1")
            log.info("stopping")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Client | None]:
        """Join the swarm, get a span, load and serve it; yields the client side at stage 0."""
        config = self._checked.config
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._lifeline)
            stack.push_async_callback(self._directory.stop)
            await self._directory.start()
            await refuse_twin(await self._directory.servers(), self._record(), self._terms)
            stack.callback(self._blocks.stop)
            stack.push_async_callback(self._neighbours.stop)
            stack.push_async_callback(self._lookout.stop)
            stack.push_async_callback(self._end_background)
            self._run_in_background(self._directory.watch())
            measuring = self._position.keep_measuring(config.announce_period_seconds)
            self._run_in_background(measuring)
            client = None
            if self._spans is None:
                await self._find_blocks()
            else:
                client = await self._serve(await self._spans.choose())
                self._run_in_background(self._keep_announcing())
            if client is not None:
                self._run_in_background(client.watch())
            log.info(
                "stage ready",
                stage=config.stage,
                blocks=str(self._blocks.span),
                throughput=f"{self._blocks.throughput():.2f} rps",
                peer_id=self._membership.peer_id,
            )
            if self._sessions is not None:
                self._run_in_background(self._sessions.expire_idle())
                self._run_in_background(self._blocks.keep_measuring(self.busy))
            # Before anything ends; what is said last is what others go by.
            stack.push_async_callback(self._leave)
            yield client

    async def _leave(self) -> None:
        """Say that this server ends, let its sessions end, and say that it has gone."""
        if self._balancing is not None:
            self._balancing.cancel()
            await asyncio.wait([self._balancing])
        if self._sessions:
            await self._say("leaving")
            await self._sessions.end(_LEAVE_SECONDS)
        await self._say("gone")

    async def _say(self, word: Literal["leaving", "gone"]) -> None:
        self._last_words = word
        try:
            async with asyncio.timeout(_WORD_SECONDS):
                await self.announce()
        except (PeerLostError, TimeoutError):
            log.warning("others were not told that this server ends; its record will expire")

    async def _retire(self, worker: Worker) -> None:
        """Free what a worker holds once nobody needs it any more."""
        if self._sessions is None:
            raise RuntimeError("nothing is served yet")
        try:
            # Within half a period everybody has heard of the new blocks.
            grace = self._checked.config.announce_period_seconds / 2
            await self._sessions.retire(worker, grace, DRAIN_SECONDS)
        finally:
            await asyncio.to_thread(worker.stop)

    async def _serve(self, span: Span) -> Client | None:
        """Serve a span for good; return the client side at stage 0."""
        self._blocks.span = span
        await self.announce()
        client = self._listen(await self._blocks.load(span))
        await self._blocks.measure()
        self._state = "online"
        await self.announce()
        return client

    async def _find_blocks(self) -> None:
        """Serve what the swarm needs most, now and from now on."""
        checked, count = self._checked, self._num_blocks
        expected, _ = await asyncio.gather(
            self._blocks.expected_throughput(count), self._position.begin()
        )
        seat = wanting(self._membership.peer_id, count, expected)
        self._balancer = Balancer(checked.config, checked.manifest.total_blocks, seat, self)
        self._balancing = self._run_in_background(self._balancer.run())
        await _first_of(self._balancer.online(), self._broken())

    async def load(self, span: Span) -> float:
        """Serve these blocks and no others; return the decode steps per second through them."""
        worker = await self._blocks.load(span)
        if self._sessions is None:
            self._listen(worker)
        else:
            self._sessions.serve(worker)
        await self._blocks.measure()
        return self._blocks.throughput()

    async def load_beside(self, span: Span) -> float:
        """Load these blocks while the others serve; return the decode steps per second of them."""
        return await self._blocks.load_beside(span)

    def switch(self) -> None:
        """Serve what was loaded beside instead of the others, whose sessions go on."""
        if self._sessions is None or self._blocks.worker is None:
            raise RuntimeError("nothing is served yet")
        before = self._blocks.switch()
        self._sessions.switch(self._blocks.worker)
        self._retiring = asyncio.create_task(self._retire(before))

    def drop(self) -> None:
        """Forget what was loaded beside."""
        self._blocks.drop()

    def keeps_both(self) -> bool:
        """Return whether there is memory to load other blocks beside those that serve."""
        # What is about to be freed is not free yet.
        busy = self._retiring is not None and not self._retiring.done()
        return not busy and self._blocks.keeps_both(self._num_blocks)

    def throughput(self) -> float:
        """Return the decode steps per second through the blocks that are loaded, as of now."""
        return self._blocks.throughput()

    def coordinate(self) -> Coordinate:
        """Return where this server is in the network, as far as it knows."""
        return self._position.said

    async def announce(self) -> None:
        """Publish this server's record.

        Raises:
            PeerLostError: discovery does not answer.
        """
        record = self._record()
        self._state = record.state
        if self._sessions is not None:
            self._sessions.accepting = record.state == "online"
        await self._directory.announce(record)

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the records of the swarm, without those of servers that were seen to die.

        Raises:
            PeerLostError: discovery does not answer.
        """
        servers = await self._directory.servers()
        # Nobody is dialled before this server can answer what is said over the connection.
        return servers if self._sessions is None else self._lookout.alive(servers)

    async def news(self) -> None:
        """Wait until a server has died that the swarm needs."""
        await self._lookout.news()

    def busy(self) -> bool:
        """Return whether sessions pass through this server."""
        return bool(self._sessions)

    def _listen(self, worker: Worker) -> Client | None:
        checked = self._checked
        bind, port = checked.config.bind, checked.config.listen_rpc_port
        if checked.config.stage > 0:
            self._sessions = StageSessions(
                checked.config, worker, self._neighbours, self._membership.peer_id
            )
            self._sessions.accepting = self._balancer is None
            self._neighbours.listen(bind, port, self._sessions)
            return None
        self._neighbours.listen(bind, port, self._mailboxes)
        node = Node(
            checked,
            self._record,
            worker,
            self._neighbours,
            self._mailboxes,
            self._view,
        )
        return Client(node, Tokenizer(weights(checked.config, NONE)))

    def _record(self) -> ServerInfo:
        """Return what this server announces of itself."""
        checked = self._checked
        seat = None if self._balancer is None else self._balancer.seat
        return ServerInfo(
            peer_id=self._membership.peer_id,
            stage=checked.config.stage,
            start=self._blocks.span.start if seat is None else seat.start,
            end=self._blocks.span.end if seat is None else seat.end,
            state=self._last_words or (self._state if seat is None else seat.phase),
            throughput=self._blocks.throughput() if seat is None else seat.throughput,
            kv_bytes=checked.config.kv_cache_mib << 20,
            addresses=tuple(Announced(*address) for address in checked.config.announced_addresses),
            model_digest=checked.manifest.digest,
            total_blocks=checked.manifest.total_blocks,
            software=__version__,
            seating=None if seat is None else seating_of(seat),
            speeds=self._blocks.speeds,
            # A newcomer stays where it was when it chose.
            coordinate=self._position.said if seat is None else seat.coordinate,
        )

    def _run_in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.append(task)
        return task

    async def _broken(self) -> None:
        """Wait until something that should go on for ever has ended, and raise why."""
        done, _ = await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _end_background(self) -> None:
        tasks = [*self._background, *([self._retiring] if self._retiring else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(self._checked.config.announce_period_seconds)
            try:
                await self.announce()
            except PeerLostError as error:
                # The next period tries again; a server that cannot announce still serves.
                log.warning("the record could not be renewed", reason=str(error))


async def _first_of(*works: Coroutine[None, None, object]) -> None:
    """Wait until one of these ends, end the others, and raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
