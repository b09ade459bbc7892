"""The neighbours of a server: one connection to each, kept, shared by all sessions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from runtime.errors import IdentityError, PeerLostError, WireError
from runtime.swarm.endpoint import Endpoint
from runtime.wire.connection import Connection, Listener, Terms, dial
from runtime.wire.messages import Ask, Message, Status

log = structlog.get_logger()

Find = Callable[[str], Awaitable[tuple[Endpoint, ...]]]
"""Where the server with a peer id may be dialled, nearest first."""


class Handler(Protocol):
    """What is done with what peers say."""

    async def handle(self, connection: Connection, message: Message, body: bytearray) -> None:
        """Take one message; messages of one connection arrive one after another.

        Raises:
            WireError: the peer breaks the protocol; its connection is closed.
        """

    async def lost(self, connection: Connection) -> None:
        """Let go of everything that depended on a connection that has ended."""


class Neighbours:
    """Every connection of this server, dialled or accepted."""

    def __init__(
        self, terms: Terms, find: Find, status: Callable[[], Status], connect_seconds: float
    ) -> None:
        """Prepare; nothing is dialled before it is needed."""
        self._status = status
        self._terms = terms
        self._find = find
        self._connect_seconds = connect_seconds
        self._handler: Handler | None = None
        self._listener = Listener(terms, self._converse)
        self._dialled: dict[str, Connection] = {}
        self._dialling: dict[str, asyncio.Lock] = {}
        self._conversations: dict[str, asyncio.Task[None]] = {}

    def listen(self, bind: str, port: int, handler: Handler) -> None:
        """Accept neighbours and give the handler what they say.

        Raises:
            OSError: the port is taken or the address is not this host's.
        """
        self._handler = handler
        self._listener.start(bind, port)

    async def connection(self, peer_id: str) -> Connection:
        """Return the connection to a server, dialled now if there is none.

        Raises:
            PeerLostError: none of its addresses answers.
            IdentityError: another server answers there.
        """
        async with self._dialling.setdefault(peer_id, asyncio.Lock()):
            known = self._dialled.get(peer_id)
            if known is not None:
                return known
            connection = await self._dial(peer_id)
            self._dialled[peer_id] = connection
            self._conversations[peer_id] = asyncio.create_task(self._converse(connection))
            return connection

    async def until_lost(self, peer_id: str) -> None:
        """Wait until the connection to a server, dialled now if there is none, has ended.

        Raises:
            PeerLostError: none of its addresses answers.
            IdentityError: another server answers there.
        """
        await self.connection(peer_id)
        await asyncio.wait([self._conversations[peer_id]])

    async def measured(self, peer_id: str) -> float | None:
        """Return the seconds that a packet takes to a server, which may be dialled just for that.

        Raises:
            PeerLostError: none of its addresses answers.
            IdentityError: another server answers there.
            VersionError: it refuses this server's version or model.
        """
        known = self._dialled.get(peer_id)
        if known is not None:
            return known.latency
        connection = await self._dial(peer_id)
        try:
            return connection.latency
        finally:
            connection.close()

    def latencies(self) -> dict[str, float]:
        """Return the seconds that a packet takes to each server that has been dialled."""
        found = ((peer_id, known.latency) for peer_id, known in self._dialled.items())
        return {peer_id: latency for peer_id, latency in found if latency is not None}

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        await self._listener.stop()
        conversations = tuple(self._conversations.values())
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _dial(self, peer_id: str) -> Connection:
        endpoints = await self._find(peer_id)
        failures: list[str] = []
        for endpoint in endpoints:
            try:
                return await dial(endpoint, peer_id, self._terms, self._connect_seconds)
            except (PeerLostError, IdentityError) as error:
                failures.append(str(error))
        reason = "; ".join(failures) or f"no address of peer {peer_id} is known"
        raise PeerLostError(reason, peer_id=peer_id)

    async def _converse(self, connection: Connection) -> None:
        """Hand on what the peer says until the connection ends."""
        handler = self._handler
        if handler is None:
            raise RuntimeError("no handler: listen() comes first")
        try:
            while True:
                message, body = await connection.receive()
                if isinstance(message, Ask):
                    await connection.send(self._status())
                else:
                    await handler.handle(connection, message, body)
        except PeerLostError:
            log.debug("connection ended", peer=connection.name)
        except WireError as error:
            log.warning("connection closed", peer=connection.name, reason=str(error))
            await connection.refuse(error)
        finally:
            connection.close()
            if self._dialled.get(connection.peer.peer_id) is connection:
                del self._dialled[connection.peer.peer_id]
            await handler.lost(connection)
