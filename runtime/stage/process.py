"""A server's process: what it starts, in which order, and how it ends."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine

import structlog

from runtime import __version__
from runtime.checks.config import Checked
from runtime.client.generation import Client
from runtime.client.mailbox import Mailboxes
from runtime.client.once import print_answer
from runtime.client.prompts import Tokenizer
from runtime.client.session import Node
from runtime.engine.reference import load_engine
from runtime.engine.worker import Worker
from runtime.errors import PeerLostError
from runtime.gateway.api import Gateway
from runtime.spec.base import Span
from runtime.stage.balancer import Balancer, seating_of
from runtime.stage.lifeline import Lifeline
from runtime.stage.notify import notify
from runtime.stage.sessions import StageSessions
from runtime.stage.source import SpanSource, configured
from runtime.stage.terms import terms
from runtime.swarm.directory import Directory
from runtime.swarm.membership import Membership
from runtime.swarm.records import Announced, ServerInfo, State
from runtime.swarm.view import View
from runtime.wire.messages import Status
from runtime.wire.neighbours import Neighbours

log = structlog.get_logger()


class Server:
    """One stage's server, from its configuration to its end."""

    def __init__(self, checked: Checked, spans: SpanSource | None = None) -> None:
        """Prepare everything that can fail without touching the network.

        Args:
            checked: the configuration.
            spans: says which blocks to serve; None: the configuration does.

        Raises:
            IdentityError: a key or certificate is missing, expired or of another fleet.
        """
        config = checked.config
        self._checked = checked
        self._spans = configured(checked) if spans is None else spans
        self._balancer: Balancer | None = None
        # Until it is known: none.
        self._span = Span(start=0, end=0)
        self._membership = Membership(checked.identity, config.fleet)
        self._state: State = "joining"
        self._throughput = 0.0
        self._worker: Worker | None = None
        self._lifeline = Lifeline()
        self._directory = Directory(
            config,
            checked.identity,
            self._membership,
            checked.manifest.digest,
            started=self._lifeline.hold,
        )
        self._view = View(config, self._directory.servers)
        self._neighbours = Neighbours(
            terms(checked, self._membership),
            self._view.endpoints,
            self.status,
            config.connect_timeout_seconds,
        )
        self._mailboxes = Mailboxes()
        self._background: list[asyncio.Task[None]] = []
        self._sessions: StageSessions | None = None

    def status(self) -> Status:
        """Return how this server is."""
        worker = self._worker
        return Status(
            state=self._state,
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
            stack.callback(self._stop_worker)
            stack.push_async_callback(self._neighbours.stop)
            stack.push_async_callback(self._end_background)
            self._run_in_background(self._directory.watch())
            client = None
            if self._spans is None:
                await self._find_blocks()
            else:
                client = await self._serve(await self._spans.choose())
                self._run_in_background(self._keep_announcing())
            log.info(
                "stage ready",
                stage=config.stage,
                blocks=str(self._span),
                throughput=f"{self._throughput:.2f} rps",
                peer_id=self._membership.peer_id,
            )
            if self._sessions is not None:
                self._run_in_background(self._sessions.expire_idle())
            yield client

    async def _serve(self, span: Span) -> Client | None:
        """Serve a span for good; return the client side at stage 0."""
        self._span = span
        await self.announce()
        worker = await self._load()
        client = self._listen(worker)
        self._throughput = await worker.throughput()
        self._state = "online"
        await self.announce()
        return client

    async def _find_blocks(self) -> None:
        """Serve what the swarm needs most, now and from now on."""
        checked = self._checked
        expected = await self._expected_throughput()
        self._balancer = Balancer(
            checked.config,
            checked.manifest.total_blocks,
            self._membership.peer_id,
            expected,
            self,
        )
        self._run_in_background(self._balancer.run())
        await _first_of(self._balancer.online(), self._broken())

    async def load(self, span: Span) -> float:
        """Serve these blocks and no others; return the decode steps per second through them."""
        # There may be memory for one of them only.
        self._stop_worker()
        self._span = span
        worker = await self._load()
        if self._sessions is None:
            self._listen(worker)
        else:
            self._sessions.serve(worker)
        self._throughput = await worker.throughput()
        return self._throughput

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
        """Return the records of the swarm.

        Raises:
            PeerLostError: discovery does not answer.
        """
        return await self._directory.servers()

    def busy(self) -> bool:
        """Return whether sessions pass through this server."""
        return bool(self._sessions)

    async def _expected_throughput(self) -> float:
        """Return the decode steps per second through as many blocks as are to be served.

        One block tells it, without knowing which ones they will be.
        """
        self._span = Span(start=0, end=1)
        worker = await self._load()
        try:
            one = await worker.throughput()
        finally:
            self._stop_worker()
            self._span = Span(start=0, end=0)
        return one / (self._checked.config.num_blocks or 1)

    def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

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
        return Client(node, Tokenizer(checked.config.model))

    async def _load(self) -> Worker:
        config, span = self._checked.config, self._span
        log.info("loading", model=str(config.model), blocks=str(span))
        self._worker = await Worker.load(
            lambda: load_engine(
                config.model,
                span,
                device=config.device,
                dtype=config.dtype,
                threads=config.threads,
                # Whoever has block 0, only the client side turns token ids into hidden states.
                embeddings=config.stage == 0,
            ),
            config.kv_cache_mib,
        )
        return self._worker

    def _record(self) -> ServerInfo:
        """Return what this server announces of itself."""
        checked = self._checked
        seat = None if self._balancer is None else self._balancer.seat
        return ServerInfo(
            peer_id=self._membership.peer_id,
            stage=checked.config.stage,
            start=self._span.start if seat is None else seat.start,
            end=self._span.end if seat is None else seat.end,
            state=self._state if seat is None else seat.phase,
            throughput=self._throughput if seat is None else seat.throughput,
            kv_bytes=checked.config.kv_cache_mib << 20,
            addresses=tuple(Announced(*address) for address in checked.config.announced_addresses),
            model_digest=checked.manifest.digest,
            total_blocks=checked.manifest.total_blocks,
            software=__version__,
            seating=None if seat is None else seating_of(seat),
        )

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        self._background.append(asyncio.create_task(work))

    async def _broken(self) -> None:
        """Wait until something that should go on for ever has ended, and raise why."""
        done, _ = await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _end_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

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
