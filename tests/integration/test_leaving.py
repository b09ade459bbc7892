"""Servers that are stopped on purpose: whoever depends on them learns it at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.client.generation import Client
from runtime.client.request import GenerationRequest
from runtime.spec.plan import HostPlan
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import (
    change_config,
    collect,
    make_fleet,
    peer_id_of,
    prepare,
    serving_place,
    wait_for_route,
)

NEW_TOKENS = 24
PROMPTS = ("Hello, replica",)
REQUEST = GenerationRequest(prompts=PROMPTS, max_new_tokens=NEW_TOKENS, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


@pytest.fixture
def plan(model: Path, tmp_path: Path) -> HostPlan:
    """Stage 0, and two servers with the same blocks, whose records live for half a minute."""
    found = prepare(make_fleet(tmp_path, model, (2, 4), announce_period_seconds=10))
    for place, stage in enumerate((0, 1, 1)):
        change_config(found, place, stage=stage, splits=[2])
    return found


@pytest.fixture
async def running(plan: HostPlan) -> AsyncIterator[dict[int, AsyncExitStack]]:
    """What stops each of the two replicas."""
    async with AsyncExitStack() as stack:
        stops: dict[int, AsyncExitStack] = {}
        for place in (1, 2):
            stops[place] = await stack.enter_async_context(AsyncExitStack())
            await stops[place].enter_async_context(serving_place(plan, place))
        yield stops


async def until_seen(client: Client, peers: set[str]) -> None:
    """Wait until these servers are seen beside stage 0, and no others."""
    async with asyncio.timeout(10):
        while True:
            if {server.peer_id for server in await client.servers() if server.stage} == peers:
                return
            await asyncio.sleep(0.1)  # between two looks; the timeout ends them


async def test_a_stopped_server_is_seen_no_more_and_no_request_fails(
    plan: HostPlan, running: dict[int, AsyncExitStack], model: Path
) -> None:
    wanted = greedy_ids(model, PROMPTS, NEW_TOKENS)
    names = {place: peer_id_of(Path(plan.stages[place].identity_path)) for place in running}
    async with serving_place(plan, 0) as client:
        assert client is not None
        await wait_for_route(client)
        await until_seen(client, set(names.values()))
        stopped = asyncio.Event()

        async def ask() -> int:
            answers = 0
            while not (stopped.is_set() and answers):
                _, end = await collect(client, REQUEST)
                assert [list(ids) for ids in end.token_ids] == wanted
                answers += 1
            return answers

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        await running[1].aclose()
        # Its record would live for half a minute.
        await until_seen(client, {names[2]})
        stopped.set()
        assert all(await asyncio.gather(*asking))
