"""Connections: one long-lived TCP connection per neighbour, mutually authenticated.

Between hosts of a network that the inventory declares private, both sides speak plain TCP; every
other connection is TLS 1.3 with both sides' certificates. Which of the two applies follows from
the address alone, so there is nothing to negotiate and nothing to downgrade.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from runtime.errors import IdentityError, PeerLostError, StagefleetError, VersionError, WireError
from runtime.swarm.endpoint import Endpoint
from runtime.wire.frame import HEADER_BYTES, frame, lengths
from runtime.wire.messages import Hello, Message, Refused, decode, encode
from runtime.wire.tls import Tls, certified

log = structlog.get_logger()

_READ_BUFFER_BYTES = 1 << 20
# A link that swallows packets is noticed after this long, also while nothing is being sent.
_DEAD_LINK_SECONDS = 20
# Linux' tcp_info: where the shortest round trip of the last minutes is, in microseconds.
_TCP_INFO_BYTES, _MIN_RTT = 152, 148
# Before a peer has proven who it is, only so many may wait, and each only so long.
_MAX_GREETING = 64


@dataclass(frozen=True)
class Terms:
    """What this server says of itself and demands of every connection."""

    me: Hello
    tls: Tls
    private_networks: tuple[str, ...]
    max_body_bytes: int
    greeting_seconds: float
    send_seconds: float

    def is_private(self, address: str) -> bool:
        """Return whether a peer at this address speaks plain TCP."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in ipaddress.ip_network(network) for network in self.private_networks)


class Connection:
    """A connection whose other side has said, and over TLS proven, who it is."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Hello,
        terms: Terms,
    ) -> None:
        """Use `dial` or a `Listener` to get one."""
        self._reader = reader
        self._writer = writer
        self._terms = terms
        self.peer = peer
        self.name = f"stage {peer.stage} ({peer.peer_id[-6:]})"

    @property
    def latency(self) -> float | None:
        """Seconds that a packet takes to the peer, as the kernel measures it; None once closed."""
        sock = self._writer.get_extra_info("socket")
        if sock is None:
            return None
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        (round_trip,) = struct.unpack_from("=I", info, _MIN_RTT)
        return float(round_trip) / 2e6

    async def send(self, message: Message, body: bytes | bytearray | memoryview = b"") -> None:
        """Send a message and the tensor that belongs to it.

        Raises:
            PeerLostError: the peer is gone, or takes nothing for too long.
        """
        try:
            async with asyncio.timeout(self._terms.send_seconds):
                await _write(self._writer, message, body)
        except TimeoutError:
            self.close()
            raise PeerLostError(
                f"{self.name} has taken no data for {self._terms.send_seconds:g} s",
                peer_id=self.peer.peer_id,
            ) from None
        except OSError as error:
            raise PeerLostError(
                f"the connection to {self.name} broke: {error}", peer_id=self.peer.peer_id
            ) from error

    async def receive(self) -> tuple[Message, bytearray]:
        """Return the next message and its body.

        Raises:
            WireError: the peer does not keep to the protocol.
            PeerLostError: the connection has ended.
        """
        try:
            return await _read(self._reader, self._terms.max_body_bytes)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise PeerLostError(
                f"the connection to {self.name} ended", peer_id=self.peer.peer_id
            ) from error

    async def refuse(self, error: StagefleetError) -> None:
        """Tell the peer why and close the connection."""
        await _refuse(self._writer, error)

    def close(self) -> None:
        """Close the connection; a peer that waits for data learns it at once."""
        self._writer.close()


async def dial(endpoint: Endpoint, peer_id: str, terms: Terms, timeout: float) -> Connection:  # noqa: ASYNC109 - the error says what was waited for
    """Return a connection to the server with this peer id.

    Raises:
        PeerLostError: it cannot be reached in time.
        IdentityError: another server, or another fleet's, answers there.
        VersionError: it refuses this server's version or model.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                endpoint.host,
                endpoint.port,
                ssl=None if endpoint.private else terms.tls.dialling,
                limit=_READ_BUFFER_BYTES,
            )
            try:
                _tune(writer.get_extra_info("socket"))
                proven = _proven(writer, terms)
                if proven not in (None, peer_id):
                    raise IdentityError(f"{endpoint} is peer {proven}, not {peer_id}")
                await _write(writer, terms.me)
                peer = await _greeting(reader, terms)
                if peer.peer_id != peer_id:
                    raise IdentityError(f"{endpoint} calls itself {peer.peer_id}, not {peer_id}")
            except BaseException:
                writer.close()
                raise
    except TimeoutError:
        raise PeerLostError(f"{endpoint} has not answered within {timeout:g} s") from None
    except ssl.SSLError as error:
        raise IdentityError(
            f"{endpoint} and this server do not trust each other: {error}"
        ) from error
    except (OSError, asyncio.IncompleteReadError) as error:
        raise PeerLostError(f"{endpoint} cannot be reached: {error}") from error
    return Connection(reader, writer, peer, terms)


Serve = Callable[[Connection], Awaitable[None]]
"""What is done with a new connection; it is closed when this returns."""


class Listener:
    """Accepts peers on one port."""

    def __init__(self, terms: Terms, serve: Serve) -> None:
        """Serve every peer that keeps to the terms."""
        self._terms = terms
        self._serve = serve
        self._greeting = asyncio.Semaphore(_MAX_GREETING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    def start(self, bind: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken or the address is not this host's.
        """
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        listening = socket.create_server((bind, port), family=family, backlog=128)
        listening.setblocking(False)
        self._socket = listening
        self._spawn(self._accept(listening))

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Not before: while the loop still waits on it, its number may be given to another socket.
        if self._socket is not None:
            self._socket.close()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, address = await loop.sock_accept(listening)
            if self._greeting.locked():
                accepted.close()
                continue
            self._spawn(self._welcome(accepted, str(address[0])))

    async def _welcome(self, accepted: socket.socket, address: str) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with self._greeting, asyncio.timeout(self._terms.greeting_seconds):
                reader, writer = await _streams(accepted, address, self._terms)
                connection = await self._greet(reader, writer)
            if connection is not None:
                await self._serve(connection)
        except TimeoutError:
            log.warning("peer refused", address=address, reason="it did not say who it is in time")
        except (OSError, asyncio.IncompleteReadError, StagefleetError) as error:
            log.warning("peer refused", address=address, reason=str(error))
        finally:
            if writer is not None:
                writer.close()
            else:
                accepted.close()

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Connection | None:
        try:
            proven = _proven(writer, self._terms)
            peer = await _greeting(reader, self._terms)
            if proven not in (None, peer.peer_id):
                raise IdentityError(f"peer {proven} calls itself {peer.peer_id}")
        except StagefleetError as error:
            await _refuse(writer, error)
            raise
        await _write(writer, self._terms.me)
        return Connection(reader, writer, peer, self._terms)


async def _streams(
    accepted: socket.socket, address: str, terms: Terms
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    _tune(accepted)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_BUFFER_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, accepted, ssl=None if terms.is_private(address) else terms.tls.listening
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _tune(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_LINK_SECONDS // 2)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_LINK_SECONDS // 4)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_LINK_SECONDS * 1000)


def _proven(writer: asyncio.StreamWriter, terms: Terms) -> str | None:
    """Return the peer id behind a TLS connection; None on a private link, which proves nothing."""
    ssl_object = writer.get_extra_info("ssl_object")
    return None if ssl_object is None else certified(ssl_object, terms.me.fleet)


async def _greeting(reader: asyncio.StreamReader, terms: Terms) -> Hello:
    message, _ = await _read(reader, max_body_bytes=0)
    if isinstance(message, Refused):
        raise VersionError(f"the peer refuses this server: {message.message}")
    if not isinstance(message, Hello):
        raise WireError(f"the peer starts with '{type(message).__name__}' instead of a greeting")
    me = terms.me
    if message.fleet != me.fleet:
        raise IdentityError(f"the peer is of fleet '{message.fleet}', not of '{me.fleet}'")
    if message.model_digest != me.model_digest:
        raise VersionError(
            f"the peer (release {message.software}) serves model {message.model_digest[:12]}, "
            f"this server (release {me.software}) serves {me.model_digest[:12]}",
            hint="import the model once and give every host the same directory",
        )
    return message


async def _refuse(writer: asyncio.StreamWriter, error: StagefleetError) -> None:
    with contextlib.suppress(OSError):
        await _write(writer, Refused(message=str(error)[:4096]))
    writer.close()


async def _read(reader: asyncio.StreamReader, max_body_bytes: int) -> tuple[Message, bytearray]:
    size = lengths(await reader.readexactly(HEADER_BYTES), max_body_bytes)
    message = decode(await reader.readexactly(size.meta))
    body = bytearray(await reader.readexactly(size.body)) if size.body else bytearray()
    return message, body


async def _write(
    writer: asyncio.StreamWriter, message: Message, body: bytes | bytearray | memoryview = b""
) -> None:
    writer.writelines(frame(encode(message), body))
    await writer.drain()
