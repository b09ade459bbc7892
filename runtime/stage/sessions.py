"""The sessions that pass through one server, and what it does with each message of theirs."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

import msgspec
import structlog
from torch import Tensor

from runtime.engine.worker import Slot, Worker
from runtime.errors import MovedError, PeerLostError, SessionError, StagefleetError, WireError
from runtime.model.dtype import dtype_name
from runtime.spec.stage import StageConfig
from runtime.stage.opening import check_opening
from runtime.wire.connection import Connection
from runtime.wire.messages import (
    Close,
    Failed,
    Message,
    Open,
    Opened,
    SessionId,
    Step,
    Timing,
    Tokens,
)
from runtime.wire.neighbours import Neighbours
from runtime.wire.tensors import tensor_bytes, tensor_from

log = structlog.get_logger()

_SWEEP_SECONDS = 5


@dataclass
class Session:
    """A batch of sequences on its way through this server.

    Attributes:
        terms: what it was opened with.
        worker: computes it.
        slot: its room on this server.
        upstream: where steps come from.
        onward: the next hop or, on the last stage, where results go.
        computing: a step is being computed.
        used: when the last step came, on the monotonic clock.
    """

    terms: Open
    worker: Worker
    slot: Slot
    upstream: Connection
    onward: Connection
    computing: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def is_last(self) -> bool:
        """Whether this server is the route's last hop."""
        return self.terms.hop == len(self.terms.route) - 1


class StageSessions:
    """A server's part in every session: the handler of stages 1 and later.

    Attributes:
        accepting: new sessions may be opened.
    """

    def __init__(
        self, config: StageConfig, worker: Worker, neighbours: Neighbours, peer_id: str
    ) -> None:
        """Serve the worker's span."""
        self._config = config
        self._worker = worker
        self._neighbours = neighbours
        self._peer_id = peer_id
        self._older: list[Worker] = []
        self._sessions: dict[SessionId, Session] = {}
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepting = True

    def serve(self, worker: Worker) -> None:
        """Serve another worker's span from now on; no session may be open."""
        if self._sessions:
            raise ValueError(f"{len(self)} sessions still need the old span")
        self._worker = worker

    def switch(self, worker: Worker) -> None:
        """Serve another worker's span from now on; sessions go on where they are.

        The old one takes new sessions too, from whoever has not heard yet, until `retire`.
        """
        self._older.append(self._worker)
        self._worker = worker

    async def retire(self, worker: Worker, grace: float, patience: float) -> None:
        """Wait until nobody needs an older worker any more.

        Args:
            worker: one that was served.
            grace: so many seconds it still takes new sessions.
            patience: so many seconds its sessions have then to end; those that have not are told
                to move.
        """
        await asyncio.sleep(grace)
        self._older.remove(worker)
        await self.end(patience, worker)

    async def end(self, patience: float, worker: Worker | None = None) -> None:
        """Let sessions end by themselves; tell those to move that have not after some time.

        Args:
            patience: in seconds.
            worker: whose sessions; None: all.
        """

        def left() -> list[tuple[SessionId, Session]]:
            items = self._sessions.items()
            return [item for item in items if worker is None or item[1].worker is worker]

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while left():
                    self._ended.clear()
                    await self._ended.wait()
        for key, session in left():
            error = MovedError("this server leaves these blocks", hint="send the request again")
            await self._fail(session.upstream, key, error)

    def __len__(self) -> int:
        """Return how many sessions are open."""
        return len(self._sessions)

    async def handle(self, connection: Connection, message: Message, body: bytearray) -> None:
        """Take one message of a peer."""
        match message:
            case Open():
                self._spawn(connection, message.session, self._open(connection, message))
            case Step():
                received = time.monotonic_ns()
                self._spawn(
                    connection, message.session, self._step(connection, message, body, received)
                )
            case Close():
                await self._close(connection, message)
            case Opened() | Tokens() | Failed():
                await self._relay(connection, message)
            case _:
                raise WireError(f"unexpected message '{type(message).__name__}'")

    async def lost(self, connection: Connection) -> None:
        """End every session that needs a connection which has ended."""
        for key, session in list(self._sessions.items()):
            if session.upstream is connection:
                self._forget(key)
                await self._tell_onward(key, session)
            elif session.onward is connection and session.is_last:
                # Stage 0 can no longer be reached directly; the chain is still there.
                session.onward = session.upstream
            elif session.onward is connection:
                error = PeerLostError(
                    f"the connection to {connection.name} ended", peer_id=connection.peer.peer_id
                )
                await self._fail(session.upstream, key, error)

    async def expire_idle(self) -> None:
        """Close sessions that have been idle for too long; runs until it is cancelled."""
        limit = self._config.session_idle_seconds
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, limit))
            now = time.monotonic()
            for key, session in list(self._sessions.items()):
                if now - session.used > limit and not session.computing:
                    error = SessionError(f"the session has been idle for {limit:g} s")
                    await self._fail(session.upstream, key, error)

    async def _open(self, connection: Connection, terms: Open) -> None:
        if terms.session in self._sessions:
            raise WireError("a session with this id is open already")
        if not self.accepting:
            raise MovedError(
                "this server leaves its blocks", hint="the swarm has changed; ask again"
            )
        worker = self._worker_for(terms)
        span = check_opening(terms, self._peer_id, worker.engine, self._config.max_batch)
        slot = worker.open(terms.padding, terms.max_length, span)
        session = Session(terms, worker, slot, upstream=connection, onward=connection)
        self._sessions[terms.session] = session
        if not session.is_last:
            onward = await self._neighbours.connection(terms.route[terms.hop + 1].peer_id)
            if self._sessions.get(terms.session) is session:
                session.onward = onward
                await onward.send(msgspec.structs.replace(terms, hop=terms.hop + 1))
            return
        session.onward = await self._way_back(connection, terms.client)
        direct = session.onward.peer.peer_id == terms.client
        await session.onward.send(Opened(terms.session, direct=direct))

    def _worker_for(self, terms: Open) -> Worker:
        """Return who has the blocks that a session wants; the newest one if nobody has."""
        if terms.hop < len(terms.route):
            hop = terms.route[terms.hop]
            for worker in (self._worker, *self._older):
                if worker.engine.span.start <= hop.start <= hop.end <= worker.engine.span.end:
                    return worker
        return self._worker

    async def _way_back(self, upstream: Connection, client: str) -> Connection:
        """Return the connection for results: straight to stage 0, or else along the chain."""
        if upstream.peer.peer_id == client:
            return upstream
        try:
            return await self._neighbours.connection(client)
        except StagefleetError as error:
            log.warning("results return along the chain", reason=str(error))
            return upstream

    async def _step(
        self, connection: Connection, step: Step, body: bytearray, received: int
    ) -> None:
        session = self._sessions.get(step.session)
        if session is None:
            raise SessionError("this server knows no such session; it may have expired")
        hidden = self._checked_hidden(session, connection, step, body)
        session.used = time.monotonic()
        session.computing = True
        try:
            if session.is_last:
                await self._last_step(session, step, hidden, received)
            else:
                await self._middle_step(session, step, hidden, received)
        finally:
            session.computing = False

    def _checked_hidden(
        self, session: Session, connection: Connection, step: Step, body: bytearray
    ) -> Tensor:
        slot, engine = session.slot, session.worker.engine
        if session.upstream is not connection:
            raise WireError("a step of another peer's session")
        if session.computing:
            raise WireError("a step before the one before it has ended")
        if step.position != slot.length:
            raise WireError(f"a step at position {step.position}; {slot.length} is next")
        if step.position + step.tokens > slot.max_length:
            raise WireError(
                f"a step to position {step.position + step.tokens}; the session was opened for "
                f"{slot.max_length}"
            )
        shape = (len(slot.padding), step.tokens, engine.hidden_size)
        hidden = tensor_from(body, step.dtype, shape)
        if hidden.dtype != engine.dtype:
            raise WireError(f"hidden states in {step.dtype}; this span computes in {engine.dtype}")
        return hidden

    async def _middle_step(
        self, session: Session, step: Step, hidden: Tensor, received: int
    ) -> None:
        done = await session.worker.forward(session.slot, hidden)
        body = tensor_bytes(done.value)
        trace = self._traced(session, step, received, done.started, done.finished)
        onward = Step(step.session, step.position, step.tokens, dtype_name(done.value.dtype), trace)
        await session.onward.send(onward, body)

    async def _last_step(self, session: Session, step: Step, hidden: Tensor, received: int) -> None:
        done = await session.worker.next_ids(session.slot, hidden, session.terms.sampling)
        trace = self._traced(session, step, received, done.started, done.finished)
        tokens = Tokens(step.session, step.position + step.tokens, done.value, trace)
        try:
            await session.onward.send(tokens)
        except PeerLostError:
            if session.onward is session.upstream:
                raise
            session.onward = session.upstream
            await session.onward.send(tokens)

    def _traced(
        self, session: Session, step: Step, received: int, started: int, finished: int
    ) -> tuple[Timing, ...]:
        if not session.terms.traced:
            return ()
        sent = time.monotonic_ns()
        return (*step.trace, Timing(self._config.stage, received, started, finished, sent))

    async def _close(self, connection: Connection, message: Close) -> None:
        session = self._sessions.get(message.session)
        if session is None:
            return
        if session.upstream is not connection:
            raise WireError("the end of another peer's session")
        self._forget(message.session)
        await self._tell_onward(message.session, session)

    async def _relay(self, connection: Connection, message: Opened | Tokens | Failed) -> None:
        """Pass a result or a failure on towards stage 0."""
        session = self._sessions.get(message.session)
        if session is None:
            return
        if session.onward is not connection or session.is_last:
            raise WireError(f"'{type(message).__name__}' from a peer that is not the next hop")
        if isinstance(message, Failed):
            self._forget(message.session)
        try:
            await session.upstream.send(message)
        except PeerLostError:
            log.debug("nobody upstream to tell", message=type(message).__name__)

    async def _fail(self, upstream: Connection, key: SessionId, error: StagefleetError) -> None:
        """End a session, here and behind, and say why, back along the chain."""
        session = self._sessions.get(key)
        if session is not None:
            self._forget(key)
            await self._tell_onward(key, session)
        log.warning("session failed", kind=type(error).__name__, reason=str(error))
        lost = error.peer_id if isinstance(error, PeerLostError) else ""
        kind, said = type(error).__name__, str(error)[:4096]
        failed = Failed(key, kind, said, self._config.stage, lost or self._peer_id)
        try:
            await upstream.send(failed)
        except PeerLostError:
            log.debug("nobody upstream to tell", message="Failed")

    async def _tell_onward(self, key: SessionId, session: Session) -> None:
        """Let the hops behind this one free the session too."""
        if session.is_last or session.onward is session.upstream:
            return
        try:
            await session.onward.send(Close(key))
        except PeerLostError:
            log.debug("nobody onward to tell", message="Close")

    def _forget(self, key: SessionId) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.worker.close(session.slot)
            self._ended.set()

    def _spawn(
        self, connection: Connection, key: SessionId, work: Coroutine[None, None, None]
    ) -> None:
        task = asyncio.create_task(self._guarded(connection, key, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(
        self, connection: Connection, key: SessionId, work: Coroutine[None, None, None]
    ) -> None:
        try:
            await work
        except WireError as error:
            log.warning("connection closed", peer=connection.name, reason=str(error))
            await connection.refuse(error)
        except StagefleetError as error:
            await self._fail(connection, key, error)
        except Exception:
            # One session's bug must not take the server, and with it all other sessions, down.
            log.exception("session failed", peer=connection.name)
            bug = SessionError("this server failed unexpectedly; its log says more")
            await self._fail(connection, key, bug)
