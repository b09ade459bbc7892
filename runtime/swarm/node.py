"""One DHT node: hivemind's, in this process, with the libp2p daemon that carries it."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import structlog
from hivemind.dht.node import DHTNode
from hivemind.p2p import P2P, P2PDaemonError, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import ControlFailure
from hivemind.utils import get_dht_time
from hivemind.utils.multiaddr import Multiaddr

from runtime.errors import ConfigError
from runtime.spec.links import multiaddr
from runtime.spec.stage import StageConfig
from runtime.swarm.admission import Entry
from runtime.swarm.gates import MemberAuthorizer, MemberRecords
from runtime.swarm.identity import LIBP2P_KEY
from runtime.swarm.membership import Membership

log = structlog.get_logger()

_CONNECT_SECONDS = 5
_STOP_SECONDS = 5
_PEER = "/p2p/"
_opened: ContextVar[list[asyncio.StreamWriter] | None] = ContextVar("opened", default=None)


def _note_connections(p2p: P2P) -> None:
    """Let `_closing` know of every connection to the daemon that is opened for one question."""
    connector = p2p._client.control.daemon_connector
    open_connection = connector.open_connection

    async def noting() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await open_connection()
        opened = _opened.get()
        if opened is not None:
            opened.append(writer)
        return reader, writer

    connector.open_connection = noting


@contextlib.contextmanager
def _closing() -> Iterator[None]:
    """Close the connections to the daemon that are opened in here.

    hivemind does so where the daemon answers, not where it ends or nobody waits any longer; an open
    one is a descriptor too many, and a loop cannot be closed with it.
    """
    opened: list[asyncio.StreamWriter] = []
    before = _opened.set(opened)
    try:
        yield
    finally:
        _opened.reset(before)
        for writer in opened:
            writer.close()


class Node:
    """A node that takes part in the fleet's DHT until it is stopped."""

    def __init__(self, p2p: P2P, dht: DHTNode, initial_peers: tuple[str, ...]) -> None:
        """Use `start`."""
        _note_connections(p2p)
        self._p2p = p2p
        self._dht = dht
        self._initial_peers = [Multiaddr(peer) for peer in initial_peers]

    @classmethod
    async def start(cls, config: StageConfig, identity: Path, membership: Membership) -> "Node":
        """Return a node that has tried its initial peers once.

        Raises:
            ConfigError: the daemon cannot start, for example because its port is taken.
        """
        own = membership.peer_id

        def address(host: str, port: int) -> str:
            return multiaddr(host, port, own).rsplit(_PEER, 1)[0]

        try:
            p2p = await P2P.create(
                host_maddrs=[address(config.bind, config.listen_dht_port)],
                announce_maddrs=[
                    address(host, port) for host, port, _ in config.announced_addresses
                ],
                identity_path=str(identity / LIBP2P_KEY),
                auto_nat=False,
                nat_port_map=False,
                use_relay=False,
                use_ipfs=False,
                check_if_identity_free=False,
            )
        except P2PDaemonError as error:
            raise ConfigError(
                f"discovery cannot start on {config.bind} port {config.listen_dht_port}: {error}"
            ) from error
        dht = await DHTNode.create(
            p2p=p2p,
            record_validator=MemberRecords(membership),
            authorizer=MemberAuthorizer(membership),
        )
        node = cls(p2p, dht, config.dht_initial_peers)
        await node.join()
        return node

    async def stop(self) -> None:
        """Leave the DHT and end the daemon; one that no longer answers is not waited for."""
        with contextlib.suppress(TimeoutError, OSError, EOFError, ControlFailure):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._dht.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._p2p.shutdown()

    async def store(self, key: str, subkey: str, value: bytes, seconds: float) -> bool:
        """Keep a record in the DHT for some time; return whether anybody has taken it."""
        return bool(await self._dht.store(key, value, get_dht_time() + seconds, subkey=subkey))

    async def get(self, key: str) -> dict[str, Entry]:
        """Return the records under a key that have not expired, by their subkeys."""
        found = await self._dht.get(key, latest=True)
        if found is None or not isinstance(found.value, dict):
            return {}
        return {
            subkey: Entry(entry.value, float(entry.expiration_time))
            for subkey, entry in found.value.items()
            if isinstance(subkey, str) and isinstance(entry.value, bytes)
        }

    async def join(self) -> None:
        """Connect to the initial peers that are not connected: they may have started since.

        Raises:
            OSError: the daemon does not answer as it should.
            EOFError: the daemon ended while it was asked.
        """
        try:
            with _closing():
                connected = {peer.peer_id for peer in await self._p2p.list_peers()}
        except ControlFailure as error:
            raise OSError(f"the libp2p daemon cannot list its peers: {error}") from error
        known = self._dht.protocol.routing_table.peer_id_to_uid
        peers = {PeerID.from_base58(peer["p2p"]): peer for peer in self._initial_peers}
        await asyncio.gather(
            *(self._connect(peer_id, peers[peer_id]) for peer_id in peers.keys() - connected)
        )
        await asyncio.gather(
            *(self._dht.protocol.call_ping(peer_id) for peer_id in peers.keys() - known.keys())
        )

    async def _connect(self, peer_id: PeerID, peer: Multiaddr) -> None:
        address = Multiaddr(str(peer).rsplit(_PEER, 1)[0])
        with contextlib.suppress(ControlFailure, TimeoutError, P2PDaemonError), _closing():
            async with asyncio.timeout(_CONNECT_SECONDS):
                # hivemind connects by itself only to peers that it is given before it starts.
                await self._p2p._client.connect(peer_id, [address])
