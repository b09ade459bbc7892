import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime.errors import IdentityError, PeerLostError, VersionError, WireError
from runtime.swarm.authority import Authority
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.identity import (
    AUTHORITY,
    CERTIFICATE,
    PRIVATE_KEY,
    certificate_peer_id,
    create_identity,
    private_key,
    read_certificate,
    signing_request,
)
from runtime.wire.connection import Connection, Listener, Terms, dial
from runtime.wire.frame import PROTOCOL, frame
from runtime.wire.messages import Ask, Close, Hello, Status, encode
from runtime.wire.tls import Tls
from tests.support.swarm import LOOPBACK, free_ports

STATUS = Status("online", 0, 0, 0)


def identity(root: Path, server: str, fleet: str = "test", authority: str = "authority") -> Path:
    directory = root / f"{authority}-{fleet}-{server}"
    issuer = Authority(root / authority, fleet)
    issuer.create()
    create_identity(directory)
    signed = issuer.sign(server, signing_request(private_key(directory)))
    (directory / CERTIFICATE).write_text(signed.certificate)
    (directory / AUTHORITY).write_text(signed.authority)
    return directory


def terms_of(
    directory: Path,
    *,
    fleet: str = "test",
    digest: str = "d1",
    private: tuple[str, ...] = (),
    body: int = 1000,
    peer_id: str | None = None,
) -> Terms:
    own = certificate_peer_id(read_certificate(directory / CERTIFICATE))
    return Terms(
        me=Hello("1.0", fleet, digest, peer_id or own, 1),
        tls=Tls(directory),
        private_networks=private,
        max_body_bytes=body,
        greeting_seconds=1,
        send_seconds=5,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("identities")


@pytest.fixture(scope="module")
def server(root: Path) -> Path:
    return identity(root, "stage-1")


@pytest.fixture(scope="module")
def client(root: Path) -> Path:
    return identity(root, "stage-0")


@contextlib.asynccontextmanager
async def listening(terms: Terms) -> AsyncIterator[Endpoint]:
    """Answer every question with STATUS, until a peer breaks the protocol."""

    async def serve(connection: Connection) -> None:
        try:
            while True:
                message, body = await connection.receive()
                if isinstance(message, Ask):
                    await connection.send(STATUS, body)
        except WireError as error:
            await connection.refuse(error)

    (port,) = free_ports(1)
    listener = Listener(terms, serve)
    listener.start(LOOPBACK, port)
    try:
        yield Endpoint(LOOPBACK, port)
    finally:
        await listener.stop()


async def is_well(endpoint: Endpoint, server: Terms, client: Terms) -> bool:
    connection = await dial(endpoint, server.me.peer_id, client, 5)
    await connection.send(Ask())
    message, _ = await connection.receive()
    connection.close()
    return message == STATUS


async def test_members_of_a_fleet_talk(server: Path, client: Path) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    async with listening(theirs) as endpoint:
        connection = await dial(endpoint, theirs.me.peer_id, ours, 5)
        assert connection.peer == theirs.me
        await connection.send(Ask(), b"x" * 1000)
        message, body = await connection.receive()
        assert (message, bytes(body)) == (STATUS, b"x" * 1000)
        assert 0 < (connection.latency or 0) < 1
        connection.close()


async def test_a_connection_that_has_ended_has_no_latency(server: Path, client: Path) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    async with listening(theirs) as endpoint:
        connection = await dial(endpoint, theirs.me.peer_id, ours, 5)
        connection.close()
        async with asyncio.timeout(10):
            while True:
                if connection.latency is None:
                    return
                await asyncio.sleep(0.01)  # the socket closes in its own time; the timeout ends it


async def test_a_peer_without_a_certificate_is_refused(server: Path, client: Path) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(client / AUTHORITY)
    async with listening(theirs) as endpoint:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=context
            )
            writer.writelines(frame(encode(ours.me)))
            assert await reader.read() == b""
            writer.close()
        assert await is_well(endpoint, theirs, ours)


@pytest.mark.parametrize("private", [False, True])
async def test_plain_tcp_is_only_for_private_networks(
    server: Path, client: Path, private: bool
) -> None:
    networks = ("127.0.0.0/8",) if private else ()
    theirs, ours = terms_of(server, private=networks), terms_of(client)
    async with listening(theirs) as endpoint:
        plain = Endpoint(endpoint.host, endpoint.port, private=True)
        if private:
            assert await is_well(plain, theirs, ours)
            with pytest.raises((PeerLostError, IdentityError)):
                await dial(endpoint, theirs.me.peer_id, ours, 2)
        else:
            with pytest.raises(PeerLostError):
                await dial(plain, theirs.me.peer_id, ours, 2)
            assert await is_well(endpoint, theirs, ours)


async def test_another_fleets_authority_is_not_trusted(
    root: Path, server: Path, client: Path
) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    stranger = terms_of(identity(root, "stage-0", authority="other"))
    async with listening(theirs) as endpoint:
        with pytest.raises(IdentityError, match="do not trust each other"):
            await dial(endpoint, theirs.me.peer_id, stranger, 5)
        assert await is_well(endpoint, theirs, ours)


async def test_a_certificate_of_another_fleet_is_refused(
    root: Path, server: Path, client: Path
) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    stranger = terms_of(identity(root, "stage-0", fleet="elsewhere"))
    async with listening(theirs) as endpoint:
        with pytest.raises((VersionError, IdentityError, PeerLostError)) as refused:
            await dial(endpoint, theirs.me.peer_id, stranger, 5)
        assert "elsewhere" in str(refused.value)
        assert await is_well(endpoint, theirs, ours)


async def test_nobody_can_take_anothers_peer_id(root: Path, server: Path, client: Path) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    liar = terms_of(identity(root, "stage-2"), peer_id=ours.me.peer_id)
    async with listening(theirs) as endpoint:
        with pytest.raises((VersionError, PeerLostError), match=r"calls itself|ended|refuses"):
            await dial(endpoint, theirs.me.peer_id, liar, 5)
        with pytest.raises(IdentityError, match=f"is peer {theirs.me.peer_id}"):
            await dial(endpoint, ours.me.peer_id, ours, 5)
        assert await is_well(endpoint, theirs, ours)


async def test_a_server_of_another_model_is_refused_with_both_digests(
    server: Path, client: Path
) -> None:
    theirs = terms_of(server)
    async with listening(theirs) as endpoint:
        with pytest.raises(VersionError, match=r"serves model d2, .* serves d1"):
            await dial(endpoint, theirs.me.peer_id, terms_of(client, digest="d2"), 5)
        assert await is_well(endpoint, theirs, terms_of(client))


@pytest.mark.parametrize(
    ("version", "older"), [(PROTOCOL + 1, "server is older"), (PROTOCOL - 1, "peer is older")]
)
async def test_another_protocol_is_told_who_is_older(
    server: Path, client: Path, version: int, older: str
) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    greeting = bytearray(b"".join(bytes(part) for part in frame(encode(ours.me))))
    greeting[4:6] = struct.pack(">H", version)
    async with listening(theirs) as endpoint:
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=ours.tls.dialling
        )
        writer.write(bytes(greeting))
        assert older.encode() in await reader.read()
        writer.close()
        assert await is_well(endpoint, theirs, ours)


async def test_who_does_not_say_who_it_is_has_to_go(server: Path, client: Path) -> None:
    theirs, ours = terms_of(server), terms_of(client)
    async with listening(theirs) as endpoint:
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=ours.tls.dialling
        )
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_nobody_there_is_said_with_the_address(client: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(PeerLostError, match=f"{LOOPBACK}:{port} cannot be reached"):
        await dial(Endpoint(LOOPBACK, port), "somebody", terms_of(client), 5)


async def test_an_oversized_frame_closes_the_connection_only(server: Path, client: Path) -> None:
    theirs, ours = terms_of(server, body=100), terms_of(client)
    async with listening(theirs) as endpoint:
        connection = await dial(endpoint, theirs.me.peer_id, ours, 5)
        await connection.send(Close(bytes(16)), b"x" * 101)
        message, _ = await connection.receive()
        assert "101 bytes; at most 100" in str(message)
        with pytest.raises(PeerLostError):
            await connection.receive()
        assert await is_well(endpoint, theirs, ours)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(min_size=1, max_size=400), keep=st.booleans())
async def test_noise_never_takes_the_server_down(
    server: Path, client: Path, noise: bytes, keep: bool
) -> None:
    """Noise in place of the greeting, or after it; cut off at the end."""
    theirs, ours = terms_of(server), terms_of(client)
    with capture_logs():
        async with listening(theirs) as endpoint:
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=ours.tls.dialling
            )
            if keep:
                writer.writelines(frame(encode(ours.me)))
            writer.write(noise)
            writer.write_eof() if writer.can_write_eof() else writer.close()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(5):
                    await reader.read()
            writer.close()
            assert await is_well(endpoint, theirs, ours)


def test_a_certificate_that_does_not_fit_its_key_is_named(server: Path, tmp_path: Path) -> None:
    create_identity(tmp_path)
    for name in (CERTIFICATE, AUTHORITY):
        (tmp_path / name).write_bytes((server / name).read_bytes())
    with pytest.raises(IdentityError, match="does not fit its key"):
        Tls(tmp_path)
    assert (tmp_path / PRIVATE_KEY).stat().st_mode & 0o077 == 0
