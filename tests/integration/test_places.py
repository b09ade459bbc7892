"""Servers at two sites: real ones with a real directory, whose connections say how far they are."""

import asyncio
from contextlib import AsyncExitStack
from itertools import combinations
from pathlib import Path

import pytest

from runtime.balance.coordinate import known_distance
from runtime.client.generation import Client
from runtime.client.request import GenerationRequest
from runtime.stage.blocks import Blocks
from runtime.swarm.records import ServerInfo
from runtime.wire.connection import Connection
from tests.support.balanced import balanced
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import collect, serving_place, wait_for_route

BLOCKS, NUM_BLOCKS, PROMPT, NEW_TOKENS = 12, 6, "Hello, pipeline", 8
REQUEST = GenerationRequest(prompts=(PROMPT,), max_new_tokens=NEW_TOKENS, ignore_eos=True)
FAR_SECONDS, NEAR_SECONDS = 0.03, 0.0001

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of twelve blocks."""
    return import_tiny("llama", tmp_path_factory.mktemp("model"), num_hidden_layers=BLOCKS)[1]


def way(one: int, other: int) -> float:
    return FAR_SECONDS if (one + other) % 2 else NEAR_SECONDS


@pytest.fixture
def two_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel say that servers with even and with odd numbers are 30 ms apart."""

    def latency(self: Connection) -> float:
        return way(self.peer.stage, self._terms.me.stage)

    monkeypatch.setattr(Connection, "latency", property(latency))
    # All are as fast, whatever else the machine does.
    monkeypatch.setattr(Blocks, "throughput", lambda _: 100.0)


async def known(client: Client, servers: int) -> dict[int, ServerInfo]:
    """Return the records by stage once so many servers are online and know where they are."""
    async with asyncio.timeout(120):
        while True:
            found = {one.stage: one for one in await client.servers() if one.state == "online"}
            pairs = list(combinations(found.values(), 2))
            said = [known_distance(one.coordinate, other.coordinate) for one, other in pairs]
            right = [way(one.stage, other.stage) for one, other in pairs]
            if len(found) == servers and said == pytest.approx(right, abs=FAR_SECONDS / 4):
                return found
            await asyncio.sleep(0.5)  # between two looks; the timeout ends them


@pytest.mark.usefixtures("two_sites")
async def test_a_newcomer_goes_where_routes_need_it_at_its_site(
    model: Path, tmp_path: Path
) -> None:
    plan = balanced(tmp_path, model, 4, NUM_BLOCKS, announce_period_seconds=2)
    async with AsyncExitStack() as stack:

        async def start(place: int) -> Client | None:
            return await stack.enter_async_context(serving_place(plan, place))

        client = await start(0)
        assert client is not None
        await start(2)
        await start(1)
        await wait_for_route(client)
        before = await known(client, 3)
        assert (before[2].start, before[1].start) == (0, 6)

        await start(4)
        after = await known(client, 4)
        # The leftmost blocks are as weak, but its site has them.
        assert after[4].start == 6
        assert [leg.server.stage for leg in await client.route(now=True)] == [2, 4]
        _, end = await collect(client, REQUEST)
        assert [list(ids) for ids in end.token_ids] == greedy_ids(model, (PROMPT,), NEW_TOKENS)
