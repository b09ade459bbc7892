"""The swarm's directory: who serves what, as the servers themselves announce it over the DHT."""

import asyncio
import contextlib
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
from runtime.swarm.gates import MemberAuthorizer, MemberRecords
from runtime.swarm.identity import LIBP2P_KEY
from runtime.swarm.membership import Membership
from runtime.swarm.records import ServerInfo, decode, encode

log = structlog.get_logger()

_PERIODS_TO_EXPIRY = 3
_REJOIN_SECONDS = 5
_CONNECT_SECONDS = 5
_GET_SECONDS = 10
"""How long one look into the DHT may take."""


class Directory:
    """This server's view of the swarm, and its own record in it."""

    def __init__(self, config: StageConfig, membership: Membership, model_digest: str) -> None:
        """Prepare; `start` joins the swarm."""
        self._config = config
        self._membership = membership
        self._key = f"stagefleet/{config.fleet}/{model_digest}"
        self._model_digest = model_digest
        self._node: DHTNode | None = None
        self._p2p: P2P | None = None
        self._rejoining: asyncio.Task[None] | None = None

    async def start(self, identity: Path) -> None:
        """Start a DHT node and keep joining the swarm through the initial peers.

        Raises:
            ConfigError: the node cannot start, for example because its port is taken.
        """
        config = self._config
        own = self._membership.peer_id
        announced = [
            multiaddr(host, port, own).rsplit("/p2p/", 1)[0]
            for host, port, _ in config.announced_addresses
        ]
        try:
            self._p2p = await P2P.create(
                host_maddrs=[
                    multiaddr(config.bind, config.listen_dht_port, own).rsplit("/p2p/", 1)[0]
                ],
                announce_maddrs=announced,
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
        self._node = await DHTNode.create(
            p2p=self._p2p,
            record_validator=MemberRecords(self._membership),
            authorizer=MemberAuthorizer(self._membership),
        )
        await self._join()
        self._rejoining = asyncio.create_task(self._keep_joining())

    async def stop(self) -> None:
        """Leave the swarm."""
        if self._rejoining is not None:
            self._rejoining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rejoining
        if self._node is not None:
            await self._node.shutdown()
        if self._p2p is not None:
            await self._p2p.shutdown()

    async def announce(self, info: ServerInfo) -> None:
        """Publish or renew this server's record."""
        lifetime = _PERIODS_TO_EXPIRY * self._config.announce_period_seconds
        await self._running().store(
            self._key, encode(info), get_dht_time() + lifetime, subkey=info.peer_id
        )

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the records of all servers of this model that have not expired."""
        async with asyncio.timeout(_GET_SECONDS):
            found = await self._running().get(self._key, latest=True)
        if found is None or not isinstance(found.value, dict):
            return ()
        records = [
            (peer, decode(entry.value))
            for peer, entry in found.value.items()
            if isinstance(entry.value, bytes)
        ]
        return tuple(
            sorted(
                (
                    info
                    for peer, info in records
                    if info and info.peer_id == peer and info.model_digest == self._model_digest
                ),
                key=lambda info: (info.start, info.peer_id),
            )
        )

    def _running(self) -> DHTNode:
        if self._node is None:
            raise RuntimeError("the directory has not been started")
        return self._node

    async def _keep_joining(self) -> None:
        """Connect to initial peers again and again: they may start later, or come back."""
        while True:
            await asyncio.sleep(_REJOIN_SECONDS)
            await self._join()

    async def _join(self) -> None:
        node, p2p = self._running(), self._p2p
        if p2p is None:
            return
        connected = {peer.peer_id for peer in await p2p.list_peers()}
        wanted = [Multiaddr(peer) for peer in self._config.dht_initial_peers]
        missing = [peer for peer in wanted if PeerID.from_base58(peer["p2p"]) not in connected]
        known = node.protocol.routing_table.peer_id_to_uid
        strangers = [peer for peer in wanted if PeerID.from_base58(peer["p2p"]) not in known]
        await asyncio.gather(*(self._connect(p2p, peer) for peer in missing))
        await asyncio.gather(
            *(node.protocol.call_ping(PeerID.from_base58(peer["p2p"])) for peer in strangers)
        )

    async def _connect(self, p2p: P2P, peer: Multiaddr) -> None:
        peer_id = PeerID.from_base58(peer["p2p"])
        address = Multiaddr(str(peer).rsplit("/p2p/", 1)[0])
        with contextlib.suppress(ControlFailure, TimeoutError, P2PDaemonError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                # hivemind connects by itself only to peers that it is given before it starts.
                await p2p._client.connect(peer_id, [address])
