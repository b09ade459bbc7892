"""Where the answers to stage 0's own sessions arrive."""

import asyncio
from typing import TypeVar

import structlog

from runtime import errors
from runtime.errors import (
    NoAnswerError,
    PeerLostError,
    SessionError,
    StagefleetError,
    WireError,
)
from runtime.wire.connection import Connection
from runtime.wire.messages import Failed, Hop, Message, Opened, SessionId, Tokens

log = structlog.get_logger()

Answer = TypeVar("Answer", Opened, Tokens)


class Mailbox:
    """The answers to one session, from its route's first hop or straight from its last."""

    def __init__(self, route: tuple[Hop, ...]) -> None:
        """Expect answers from this route only."""
        self._first, self._last = route[0].peer_id, route[-1].peer_id
        self._letters: asyncio.Queue[Message | StagefleetError] = asyncio.Queue()

    def accept(self, connection: Connection, message: Opened | Tokens | Failed) -> None:
        """Keep an answer.

        Raises:
            WireError: the peer is not one that answers for this session.
        """
        if connection.peer.peer_id not in (self._first, self._last):
            raise WireError("an answer to a session of which this peer is no end")
        self._letters.put_nowait(message)

    def lost(self, connection: Connection) -> None:
        """Note that an end of the route has gone."""
        if connection.peer.peer_id == self._first:
            self._letters.put_nowait(
                PeerLostError(
                    f"the connection to {connection.name} ended",
                    hint="see which stages are down: stagefleet service status --inventory <site>",
                    peer_id=self._first,
                )
            )

    async def answer(self, kind: type[Answer], seconds: float, waited_for: str) -> Answer:
        """Return the next answer, which has to be of this kind.

        Raises:
            StagefleetError: what a stage reported, what broke, or that nothing came in time.
        """
        try:
            async with asyncio.timeout(seconds):
                letter = await self._letters.get()
        except TimeoutError:
            raise NoAnswerError(f"waited {seconds:g} s for {waited_for}; nothing came") from None
        if isinstance(letter, StagefleetError):
            raise letter
        if isinstance(letter, Failed):
            raise _as_error(letter)
        if not isinstance(letter, kind):
            raise SessionError(f"'{type(letter).__name__}' came instead of {waited_for}")
        return letter


class Mailboxes:
    """The handler of stage 0: sorts answers into the mailboxes of its sessions."""

    def __init__(self) -> None:
        """Start with no session."""
        self._open: dict[SessionId, Mailbox] = {}

    def __len__(self) -> int:
        """Return how many sessions are open."""
        return len(self._open)

    def add(self, key: SessionId, route: tuple[Hop, ...]) -> Mailbox:
        """Return the mailbox of a new session."""
        self._open[key] = Mailbox(route)
        return self._open[key]

    def remove(self, key: SessionId) -> None:
        """Drop a session's mailbox; what still comes for it is ignored."""
        del self._open[key]

    async def handle(self, connection: Connection, message: Message, _body: bytearray) -> None:
        """Sort one message."""
        if not isinstance(message, Opened | Tokens | Failed):
            raise WireError(f"unexpected message '{type(message).__name__}' at stage 0")
        mailbox = self._open.get(message.session)
        if mailbox is None:
            log.debug("answer to a session that is over", message=type(message).__name__)
        else:
            mailbox.accept(connection, message)

    async def lost(self, connection: Connection) -> None:
        """Tell every session that a connection has ended."""
        for mailbox in self._open.values():
            mailbox.lost(connection)


def _as_error(failed: Failed) -> StagefleetError:
    """Return what a stage reported as the exception that it was there."""
    kind = getattr(errors, failed.kind, None) if failed.kind in errors.__all__ else None
    error = kind if kind is not None else SessionError
    message = f"stage {failed.stage}: {failed.message}"
    if issubclass(error, SessionError | PeerLostError):
        return error(message, peer_id=failed.peer_id)
    return error(message)
