"""Servers that choose their blocks: real ones with a real directory, on loopback."""

import asyncio
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
    prepare_spans,
    serving_place,
    serving_spans,
    wait_for_route,
)

BLOCKS, NEW_TOKENS = 12, 8
PROMPTS = ("Hello, pipeline", "a")
REQUEST = GenerationRequest(prompts=PROMPTS, max_new_tokens=NEW_TOKENS, ignore_eos=True)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of twelve blocks."""
    return import_tiny("llama", tmp_path_factory.mktemp("model"), num_hidden_layers=BLOCKS)[1]


def balanced(root: Path, model: Path, servers: int, num_blocks: int) -> HostPlan:
    """Prepare a stage 0 and so many servers that choose blocks, all about to start at once."""
    # Everything runs in this process, so records take their time.
    plan = prepare_spans(root, model, servers, announce_period_seconds=4)
    for place in range(1, servers + 1):
        change_config(plan, place, use_load_balancing=True, splits=(), num_blocks=num_blocks)
    return plan


async def held(client: Client) -> list[tuple[int, int]]:
    """Return the spans of all servers that are online."""
    servers = await client.servers()
    return sorted((s.start, s.end) for s in servers if s.state == "online" and s.stage > 0)


async def until_held(client: Client, spans: list[tuple[int, int]]) -> None:
    async with asyncio.timeout(120):
        while True:
            if await held(client) == spans:
                return
            await asyncio.sleep(0.5)  # between two looks; the timeout ends them


async def assert_answers_are_right(client: Client, model: Path) -> None:
    wanted = greedy_ids(model, PROMPTS, NEW_TOKENS)
    for _ in range(3):
        _, end = await collect(client, REQUEST)
        assert [list(ids) for ids in end.token_ids] == wanted


@pytest.mark.parametrize(("servers", "num_blocks", "copies"), [(4, 3, 1), (3, 12, 3), (4, 6, 2)])
async def test_servers_that_start_together_cover_the_model_evenly(
    servers: int, num_blocks: int, copies: int, model: Path, tmp_path: Path
) -> None:
    plan = balanced(tmp_path, model, servers, num_blocks)
    async with serving_spans(plan, {}) as (client,):
        spans = await held(client)
        assert len(spans) == servers
        for block in range(BLOCKS):
            assert sum(start <= block < end for start, end in spans) == copies
        await assert_answers_are_right(client, model)


async def test_a_server_that_joins_closes_a_gap_and_one_that_is_left_over_moves_into_the_next(
    model: Path, tmp_path: Path
) -> None:
    plan = balanced(tmp_path, model, 4, 6)
    async with AsyncExitStack() as stack:
        started = {place: await stack.enter_async_context(AsyncExitStack()) for place in range(5)}
        client = await started[0].enter_async_context(serving_place(plan, 0))
        assert client is not None
        # One after the other.
        for place, expected in enumerate([(0, 6), (6, 12), (0, 6)], start=1):
            await started[place].enter_async_context(serving_place(plan, place))
            assert expected in await held(client)
        assert await held(client) == [(0, 6), (0, 6), (6, 12)]
        await wait_for_route(client)
        await assert_answers_are_right(client, model)

        # Both places were covered by two at most; now one has nobody.
        await started[2].aclose()
        await until_held(client, [(0, 6), (6, 12)])
        await wait_for_route(client)
        await assert_answers_are_right(client, model)

        await started[4].enter_async_context(serving_place(plan, 4))
        assert len(await held(client)) == 3
        await assert_answers_are_right(client, model)
