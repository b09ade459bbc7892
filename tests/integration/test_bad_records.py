"""Members of the fleet that say nonsense in the directory: they are named, and nobody is harmed."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from runtime.checks.config import checked, read_config
from runtime.client.generation import Client
from runtime.errors import IdentityError
from runtime.spec.fleet import Fleet
from runtime.spec.plan import HostPlan
from runtime.stage.process import Server
from runtime.swarm.directory import Directory
from runtime.swarm.membership import Membership
from runtime.swarm.node import Node
from runtime.swarm.records import Announced, encode
from runtime.swarm.report import SwarmReport
from tests.support.models import import_tiny
from tests.support.swarm import (
    free_ports,
    issue,
    make_fleet,
    peer_id_of,
    prepare,
    serving_in_process,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model."""
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


@dataclasses.dataclass
class Fixture:
    """A pipeline of two stages, and what else its fleet knows."""

    fleet: Fleet
    plan: HostPlan
    client: Client
    stack: AsyncExitStack

    async def until(self, holds: Callable[[SwarmReport], object]) -> SwarmReport:
        """Return the first report of which something is true."""
        async with asyncio.timeout(60):
            while True:
                report = await self.client.swarm()
                if holds(report):
                    return report
                await asyncio.sleep(0.2)  # between two looks; the timeout ends them

    def changed(self, name: str, **fields: object) -> Path:
        """Return a copy of stage 1's configuration with other ports and some fields changed."""
        dht, rpc = free_ports(2)
        known = json.loads(Path(self.plan.stages[1].config_path).read_text())
        path = Path(self.plan.stages[1].config_path).with_name(name)
        path.write_text(json.dumps(known | {"dht_port": dht, "rpc_port": rpc} | fields))
        return path

    async def node(self, name: str) -> tuple[Node, str]:
        """Return a member's node in the directory, and its peer id."""
        identity = Path(self.plan.stages[1].config_path).with_name(name)
        issue(self.fleet, identity, name)
        config = read_config(self.changed(f"{name}.json", identity=str(identity)))
        node = await Node.start(config, identity, Membership(identity, config.fleet))
        self.stack.push_async_callback(node.stop)
        return node, peer_id_of(identity)


@asynccontextmanager
async def pipeline(root: Path, model: Path) -> AsyncIterator[Fixture]:
    fleet = make_fleet(root, model, (2,))
    plan = prepare(fleet)
    async with serving_in_process(plan) as client, AsyncExitStack() as stack:
        yield Fixture(fleet, plan, client, stack)


def problems(report: SwarmReport) -> dict[str, str]:
    return {remark.peer_id: remark.problem for remark in report.remarks}


async def test_records_that_are_nonsense_are_named_and_harm_nobody(
    model: Path, tmp_path: Path
) -> None:
    async with pipeline(tmp_path, model) as here:
        (leg,) = await here.client.route(now=True)
        honest = leg.server
        key = f"stagefleet/test/{honest.model_digest}"
        node, liar = await here.node("liar")

        async def says(value: bytes, holds: Callable[[SwarmReport], object]) -> SwarmReport:
            assert await node.store(key, liar, value, 30)
            report = await here.until(holds)
            (found,) = await here.client.route(now=True)
            assert found.server.peer_id == honest.peer_id
            return report

        await says(b"noise", lambda report: "cannot be read" in problems(report).get(liar, ""))
        beyond = msgspec.structs.replace(honest, peer_id=liar, start=50, end=60, total_blocks=60)
        report = await says(encode(beyond), lambda r: "60 blocks" in problems(r).get(liar, ""))
        assert liar not in {server.peer_id for server in report.servers}

        # Nobody answers where it says it is; only what it says of its speed is to be seen here.
        fast = msgspec.structs.replace(
            honest,
            peer_id=liar,
            throughput=1e9,
            start=0,
            end=1,
            addresses=(Announced("127.0.0.1", *free_ports(2)),),
        )
        report = await says(encode(fast), lambda r: "are believed" in problems(r).get(liar, ""))
        known = {server.peer_id: server for server in report.servers}
        assert known[liar].throughput < 1e9
        assert report.complete

        # From the future: nobody keeps it, not even its author.
        assert not await node.store(key, liar, encode(fast), 1e6)


async def test_servers_of_two_models_learn_of_each_other(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pipeline(tmp_path, model) as here:
        identity = tmp_path / "other"
        issue(here.fleet, identity, "other")
        config = read_config(here.changed("other.json", identity=str(identity)))
        membership = Membership(identity, config.fleet)
        other = Directory(config, identity, membership, "f" * 64, 30, started=lambda: None)
        await other.start()
        here.stack.push_async_callback(other.stop)
        (leg,) = await here.client.route(now=True)
        own = msgspec.structs.replace(
            leg.server, peer_id=membership.peer_id, model_digest="f" * 64, total_blocks=30
        )
        await other.announce(own)
        report = await here.until(lambda report: membership.peer_id in problems(report))
        assert "another model, ffffffffffff" in problems(report)[membership.peer_id]
        assert membership.peer_id not in {server.peer_id for server in report.servers}
        assert {remark.peer_id for remark in other.remarks()} == {
            server.peer_id for server in report.servers
        }
        assert capsys.readouterr().out.count("another model, ffffffffffff") >= 1


async def test_the_second_process_with_an_identity_does_not_start(
    model: Path, tmp_path: Path
) -> None:
    async with pipeline(tmp_path, model) as here:
        await here.client.route(now=True)
        twin = Server(checked(read_config(here.changed("twin.json"))))
        with pytest.raises(IdentityError, match="another process with this server's identity"):
            async with twin.serving():
                pass
        # The first one serves on.
        await here.client.route(now=True)


async def test_two_processes_with_an_identity_that_did_not_see_each_other_are_named(
    model: Path, tmp_path: Path
) -> None:
    async with pipeline(tmp_path, model) as here:
        (leg,) = await here.client.route(now=True)
        config = read_config(here.changed("twin.json"))
        assert config.identity is not None
        directory = Directory(
            config,
            config.identity,
            Membership(config.identity, config.fleet),
            leg.server.model_digest,
            leg.server.total_blocks,
            started=lambda: None,
        )
        await directory.start()
        here.stack.push_async_callback(directory.stop)
        twin = msgspec.structs.replace(leg.server, addresses=(Announced("127.0.0.1", 1, 2),))

        async def speak() -> None:
            while True:
                await directory.announce(twin)
                # Not in step with the other one, whose records would be replaced before a look.
                await asyncio.sleep(0.7 * config.announce_period_seconds)

        speaking = asyncio.create_task(speak())
        try:
            report = await here.until(lambda report: leg.server.peer_id in problems(report))
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        assert "two processes have this identity" in problems(report)[leg.server.peer_id]
