"""A session as stage 0 holds it: it knows the next token, wherever the blocks are."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from runtime.checks.config import Checked
from runtime.client.mailbox import Mailboxes
from runtime.engine.worker import Slot, Worker
from runtime.errors import PeerLostError, SessionError
from runtime.model.dtype import dtype_name
from runtime.swarm.records import ServerInfo
from runtime.swarm.view import View
from runtime.wire.connection import Connection
from runtime.wire.messages import Close, Open, Opened, Step, Timing, Tokens
from runtime.wire.neighbours import Neighbours
from runtime.wire.tensors import tensor_bytes


@dataclass(frozen=True)
class Node:
    """What stage 0 is made of; `record` is what it announces of itself now."""

    checked: Checked
    record: Callable[[], ServerInfo]
    worker: Worker
    neighbours: Neighbours
    mailboxes: Mailboxes
    view: View


class Session(Protocol):
    """A session with room on stage 0; `open` comes first.

    Attributes:
        direct: tokens come straight from the last stage, not along the chain.
        trace: for a traced session, what each hop did in each step so far, stage 0 first.
    """

    direct: bool
    trace: list[tuple[Timing, ...]]

    async def open(self) -> None:
        """Let every server of the route make room.

        Raises:
            SessionError: a server cannot take it.
            PeerLostError: a server cannot be reached.
        """

    async def step(self, ids: Tensor) -> tuple[int, ...]:
        """Return the next token of each sequence behind the new token ids `[batch, tokens]`.

        Raises:
            SessionError: a server failed, or did not answer in time.
            PeerLostError: a server went away.
        """

    def free(self) -> None:
        """Free what the session holds here."""

    async def close(self) -> None:
        """Free what the session holds on every server."""


def new_session(node: Node, terms: Open) -> Session:
    """Return a session with room on stage 0, which holds all blocks if the route is empty.

    Raises:
        ServerFullError: stage 0 has no room.
    """
    slot = node.worker.open(terms.padding, terms.max_length)
    return _Chain(node, terms, slot) if terms.route else _Whole(node, terms, slot)


class _Whole:
    """Stage 0 holds all blocks."""

    def __init__(self, node: Node, terms: Open, slot: Slot) -> None:
        self.direct = True
        self.trace: list[tuple[Timing, ...]] = []
        self._node, self._terms, self._slot = node, terms, slot

    async def open(self) -> None:
        pass

    async def step(self, ids: Tensor) -> tuple[int, ...]:
        received = time.monotonic_ns()
        done = await self._node.worker.next_ids_alone(self._slot, ids, self._terms.sampling)
        if self._terms.traced:
            sent = time.monotonic_ns()
            self.trace.append((Timing(0, received, done.started, done.finished, sent),))
        return done.value

    def free(self) -> None:
        self._node.worker.close(self._slot)

    async def close(self) -> None:
        pass


class _Chain:
    """Stage 0 holds the first blocks, or none, the servers of the route the others."""

    def __init__(self, node: Node, terms: Open, slot: Slot) -> None:
        self.direct = False
        self.trace: list[tuple[Timing, ...]] = []
        self._node, self._terms, self._slot = node, terms, slot
        self._mailbox = node.mailboxes.add(terms.session, terms.route)
        self._first: Connection | None = None
        self._answered = time.monotonic_ns()

    async def open(self) -> None:
        self._first = await self._node.neighbours.connection(self._terms.route[0].peer_id)
        await self._first.send(self._terms)
        servers = len(self._terms.route)
        # Each hop dials the next one, and the last one dials this server.
        patience = self._node.checked.config.connect_timeout_seconds * (servers + 1)
        opened = await self._mailbox.answer(
            Opened, patience, f"{servers} servers to open a session"
        )
        self.direct = opened.direct
        self._answered = time.monotonic_ns()

    async def step(self, ids: Tensor) -> tuple[int, ...]:
        if self._first is None:
            raise SessionError("the session is not open")
        key, position, tokens = self._terms.session, self._slot.length, ids.shape[1]
        done = await self._node.worker.forward_ids(self._slot, ids)
        body = tensor_bytes(done.value)
        sent = time.monotonic_ns()
        await self._first.send(Step(key, position, tokens, dtype_name(done.value.dtype)), body)
        patience = self._node.checked.config.step_timeout_seconds
        answer = await self._mailbox.answer(Tokens, patience, "the next token")
        if self._terms.traced:
            own = Timing(0, self._answered, done.started, done.finished, sent)
            self.trace.append((own, *answer.trace))
        self._answered = time.monotonic_ns()
        return answer.ids

    def free(self) -> None:
        self._node.worker.close(self._slot)
        self._node.mailboxes.remove(self._terms.session)

    async def close(self) -> None:
        if self._first is None:
            return
        try:
            await self._first.send(Close(self._terms.session))
        except PeerLostError:
            # Whoever still holds the session notices the lost connection too.
            return
