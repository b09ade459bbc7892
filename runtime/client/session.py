"""A session as stage 0 holds it: it knows the next token, wherever the blocks are."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from runtime.checks.config import Checked
from runtime.client.mailbox import Mailbox, Mailboxes
from runtime.engine.worker import Slot, Worker
from runtime.errors import PeerLostError
from runtime.model.dtype import dtype_name
from runtime.swarm.records import ServerInfo
from runtime.swarm.view import View
from runtime.wire.connection import Connection
from runtime.wire.messages import Close, Hop, Open, Opened, Step, Timing, Tokens
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
    """An open session.

    Attributes:
        direct: tokens come straight from the last stage, not along the chain.
        trace: for a traced session, what each hop did in each step so far, stage 0 first.
    """

    direct: bool
    trace: list[tuple[Timing, ...]]

    async def step(self, ids: Tensor) -> tuple[int, ...]:
        """Return the next token of each sequence behind the new token ids `[batch, tokens]`.

        Raises:
            SessionError: a server failed, or did not answer in time.
            PeerLostError: a server went away.
        """

    async def close(self) -> None:
        """Free what the session holds, here and on every server."""


async def open_session(node: Node, terms: Open, servers: tuple[ServerInfo, ...]) -> Session:
    """Return a session that every server of the route has made room for.

    Raises:
        SessionError: a server cannot take it.
        PeerLostError: a server cannot be reached.
    """
    slot = node.worker.open(terms.padding, terms.max_length)
    if not servers:
        return _Whole(node, terms, slot)
    mailbox = node.mailboxes.add(terms.session, terms.route)
    try:
        first = await node.neighbours.connection(terms.route[0].peer_id)
        await first.send(terms)
        config = node.checked.config
        # Each hop dials the next one, and the last one dials this server.
        patience = config.connect_timeout_seconds * (len(servers) + 1)
        stages = ", ".join(str(server.stage) for server in servers)
        opened = await mailbox.answer(Opened, patience, f"stages {stages} to open a session")
    except BaseException:
        node.mailboxes.remove(terms.session)
        node.worker.close(slot)
        raise
    return _Chain(node, terms, slot, first, mailbox, direct=opened.direct)


class _Whole:
    """Stage 0 holds all blocks."""

    def __init__(self, node: Node, terms: Open, slot: Slot) -> None:
        self.direct = True
        self.trace: list[tuple[Timing, ...]] = []
        self._node, self._terms, self._slot = node, terms, slot

    async def step(self, ids: Tensor) -> tuple[int, ...]:
        received = time.monotonic_ns()
        done = await self._node.worker.next_ids_alone(self._slot, ids, self._terms.sampling)
        if self._terms.traced:
            sent = time.monotonic_ns()
            self.trace.append((Timing(0, received, done.started, done.finished, sent),))
        return done.value

    async def close(self) -> None:
        self._node.worker.close(self._slot)


class _Chain:
    """Stage 0 holds the first blocks, the servers of the route the others."""

    def __init__(
        self,
        node: Node,
        terms: Open,
        slot: Slot,
        first: Connection,
        mailbox: Mailbox,
        *,
        direct: bool,
    ) -> None:
        self.direct = direct
        self.trace: list[tuple[Timing, ...]] = []
        self._node, self._terms, self._slot = node, terms, slot
        self._first, self._mailbox = first, mailbox
        self._answered = time.monotonic_ns()

    async def step(self, ids: Tensor) -> tuple[int, ...]:
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

    async def close(self) -> None:
        self._node.worker.close(self._slot)
        self._node.mailboxes.remove(self._terms.session)
        try:
            await self._first.send(Close(self._terms.session))
        except PeerLostError:
            # Whoever still holds the session notices the lost connection too.
            return


def hops(servers: tuple[ServerInfo, ...]) -> tuple[Hop, ...]:
    """Return the route through these servers."""
    return tuple(Hop(server.peer_id, server.start, server.end) for server in servers)
