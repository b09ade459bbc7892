"""The swarm's directory: who serves what, as the servers themselves announce it over the DHT."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from runtime.errors import ConfigError, PeerLostError
from runtime.spec.stage import PERIODS_TO_EXPIRY, StageConfig
from runtime.swarm.membership import Membership
from runtime.swarm.node import Node
from runtime.swarm.records import ServerInfo, decode, encode

log = structlog.get_logger()

_JOIN_PERIOD_SECONDS = 5
# Everything that a daemon which runs answers within.
_ANSWER_SECONDS = 15


class Directory:
    """This server's view of the swarm, and its own record in it."""

    def __init__(
        self,
        config: StageConfig,
        identity: Path,
        membership: Membership,
        model_digest: str,
        started: Callable[[], None],
    ) -> None:
        """Prepare; `start` joins the swarm.

        Args:
            config: the server's configuration.
            identity: the directory of its key and certificates.
            membership: what it proves itself with.
            model_digest: of the model it serves; servers of other models are not seen.
            started: is called whenever a node, and with it a process, has been started.
        """
        self._config = config
        self._identity = identity
        self._membership = membership
        self._key = f"stagefleet/{config.fleet}/{model_digest}"
        self._model_digest = model_digest
        self._started = started
        self._node: Node | None = None

    async def start(self) -> None:
        """Start a DHT node; `watch` keeps it running and joined.

        Raises:
            ConfigError: the node cannot start, for example because its port is taken.
        """
        self._node = await Node.start(self._config, self._identity, self._membership)
        self._started()

    async def stop(self) -> None:
        """Leave the swarm."""
        node, self._node = self._node, None
        if node is not None:
            await node.stop()

    async def watch(self) -> None:
        """Keep the node joined, and start it anew when its daemon has died; until cancelled.

        Sessions go on meanwhile: they do not need the directory.
        """
        while True:
            await asyncio.sleep(_JOIN_PERIOD_SECONDS)
            try:
                if self._node is None:
                    await self.start()
                async with _answering():
                    await self._running().join()
            except PeerLostError as error:
                log.warning("discovery is started anew", reason=str(error))
                await self.stop()
            except ConfigError as error:
                log.warning("discovery does not start; it is tried again", reason=str(error))

    async def announce(self, info: ServerInfo) -> None:
        """Publish or renew this server's record.

        Raises:
            PeerLostError: discovery does not answer.
        """
        lifetime = PERIODS_TO_EXPIRY * self._config.announce_period_seconds
        node = self._running()
        async with _answering():
            await node.store(self._key, info.peer_id, encode(info), lifetime)

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the records of all servers of this model that have not expired.

        Raises:
            PeerLostError: discovery does not answer.
        """
        node = self._running()
        async with _answering():
            found = await node.get(self._key)
        infos = ((peer, decode(value)) for peer, value in found.items())
        return tuple(
            sorted(
                (
                    info
                    for peer, info in infos
                    if info and info.peer_id == peer and info.model_digest == self._model_digest
                ),
                key=lambda info: (info.start, info.peer_id),
            )
        )

    def _running(self) -> Node:
        if self._node is None:
            raise PeerLostError("discovery is being restarted", hint="try again in a moment")
        return self._node


@contextlib.asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Turn a daemon's silence or end into an error of ours."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            yield
    except TimeoutError:
        raise PeerLostError(f"discovery has not answered within {_ANSWER_SECONDS} s") from None
    except (OSError, EOFError) as error:
        raise PeerLostError(f"discovery does not answer: {error}") from error
