"""The swarm's directory: who serves what, as the servers themselves announce it over the DHT."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import structlog

from runtime.errors import ConfigError, PeerLostError
from runtime.spec.stage import StageConfig
from runtime.swarm.admission import Renewals, Twins, admitted, strangers
from runtime.swarm.membership import Membership
from runtime.swarm.node import Node
from runtime.swarm.records import Presence, ServerInfo, encode
from runtime.swarm.report import Remark

log = structlog.get_logger()

_JOIN_PERIOD_SECONDS = 5
# Everything that a daemon which runs answers within.
_ANSWER_SECONDS = 15
_ROLL_PERIODS = 12
"""A server says which model it has to the whole fleet once in so many announcements."""
_RUN_BYTES = 8
_MOST_SAID = 1000
_NOT_TAKEN = "no server of the directory has taken this server's record"
_CLOCKS = "is this host's clock right (timedatectl)? does another process have this identity?"


class Directory:
    """This server's view of the swarm, and its own record in it."""

    def __init__(
        self,
        config: StageConfig,
        identity: Path,
        membership: Membership,
        model_digest: str,
        total_blocks: int,
        started: Callable[[], None],
    ) -> None:
        """Prepare; `start` joins the swarm.

        Args:
            config: the server's configuration.
            identity: the directory of its key and certificates.
            membership: what it proves itself with.
            model_digest: of the model it serves; of servers of other models only that is seen.
            total_blocks: of that model.
            started: is called whenever a node, and with it a process, has been started.
        """
        self._config = config
        self._identity = identity
        self._membership = membership
        self._roll = f"stagefleet/{config.fleet}"
        self._key = f"{self._roll}/{model_digest}"
        self._model_digest = model_digest
        self._total_blocks = total_blocks
        self._run = secrets.token_hex(_RUN_BYTES)
        self._renewals = Renewals(config.record_seconds)
        self._twins = Twins(config.record_seconds)
        self._taken = True
        self._roll_due = -float("inf")
        self._remarks: tuple[Remark, ...] = ()
        self._strangers: tuple[Remark, ...] = ()
        self._said: set[tuple[str, str]] = set()
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
        lifetime = self._config.record_seconds
        node = self._running()
        record = msgspec.structs.replace(info, run=self._run)
        async with _answering():
            taken = await node.store(self._key, info.peer_id, encode(record), lifetime)
            if taken:
                await self._answer_roll(node, info)
        # Once is what happens while discovery is started anew.
        if not taken and not self._taken:
            self._tell((Remark(peer_id=info.peer_id, problem=_NOT_TAKEN, hint=_CLOCKS),))
        self._taken = taken

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the records of all servers of this model that are kept alive.

        Raises:
            PeerLostError: discovery does not answer.
        """
        node = self._running()
        async with _answering():
            found = await node.get(self._key)
        now = time.monotonic()
        alive = self._renewals.alive(found, now)
        admission = admitted(alive, self._model_digest, self._total_blocks)
        twins = self._twins.seen(admission.servers, alive, now)
        self._remarks = (*twins, *admission.remarks)
        self._tell(self._remarks)
        return admission.servers

    def remarks(self) -> tuple[Remark, ...]:
        """Return who does not count, or not as it says, as of the latest look."""
        return (*self._remarks, *self._strangers)

    async def _answer_roll(self, node: Node, info: ServerInfo) -> None:
        """Say now and then to the whole fleet which model this is, and hear what others say."""
        now, period = time.monotonic(), _ROLL_PERIODS * self._config.announce_period_seconds
        if now < self._roll_due:
            return
        self._roll_due = now + period
        presence = Presence(info.peer_id, info.model_digest, info.software)
        lifetime = period + self._config.record_seconds
        await node.store(self._roll, info.peer_id, encode(presence), lifetime)
        self._strangers = strangers(await node.get(self._roll), self._model_digest)
        self._tell(self._strangers)
        # Servers with fixed splits look at nobody otherwise; this one may not be alone in its name.
        await self.servers()

    def _tell(self, remarks: tuple[Remark, ...]) -> None:
        """Log each remark once, whatever numbers are in it."""
        for remark in remarks:
            key = (remark.peer_id, remark.hint)
            if key not in self._said and len(self._said) < _MOST_SAID:
                self._said.add(key)
                log.warning(remark.problem, peer_id=remark.peer_id, hint=remark.hint)

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
