"""Servers that choose their blocks: real ones with a real directory, on loopback."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.checks.config import checked, read_config
from runtime.client.generation import Client
from runtime.client.request import GenerationRequest
from runtime.spec.plan import HostPlan
from runtime.stage.blocks import Blocks
from runtime.stage.health import status_of
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


@pytest.mark.parametrize(("servers", "num_blocks", "copies"), [(4, 3, 1), (3, 12, 3)])
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


async def test_what_a_fixed_stage_0_holds_is_left_to_it(model: Path, tmp_path: Path) -> None:
    plan = balanced(tmp_path, model, 3, 3)
    change_config(plan, 0, use_load_balancing=False, splits=(3,))
    async with serving_spans(plan, {}) as (client,):
        await until_held(client, [(3, 6), (6, 9), (9, 12)])
        await assert_answers_are_right(client, model)


class Swarm:
    """Servers of a plan that are started and stopped one by one."""

    def __init__(self, plan: HostPlan, stack: AsyncExitStack) -> None:
        self._plan, self._stack = plan, stack
        self._running: dict[int, AsyncExitStack] = {}
        self.client: Client

    async def start(self, *places: int) -> None:
        """Start servers together, and wait until they serve."""
        for place in places:
            self._running[place] = await self._stack.enter_async_context(AsyncExitStack())
        clients = await asyncio.gather(
            *(
                self._running[place].enter_async_context(serving_place(self._plan, place))
                for place in places
            )
        )
        for client in clients:
            self.client = client or self.client

    async def stop(self, *places: int) -> None:
        """Stop servers, and wait until nobody counts on them any more."""
        for place in places:
            await self._running.pop(place).aclose()
        async with asyncio.timeout(60):
            while True:
                if not set(places) & {s.stage for s in await self.client.servers()}:
                    return
                await asyncio.sleep(0.5)  # between two looks; the timeout ends them

    async def health(self, place: int) -> str:
        """Return the state of a server that its health check accepts."""
        config = read_config(Path(self._plan.stages[place].config_path))
        return (await status_of(checked(config), 10)).state

    async def places(self, span: tuple[int, int]) -> list[int]:
        """Return who serves a span."""
        return sorted(
            server.stage
            for server in await self.client.servers()
            if (server.start, server.end) == span and server.state == "online" and server.stage > 0
        )


FIRST, SECOND = (0, 6), (6, 12)


async def test_servers_go_where_the_swarm_needs_them(model: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        swarm = Swarm(balanced(tmp_path, model, 4, 6), stack)
        await swarm.start(0)
        await swarm.start(1)
        assert await swarm.places(FIRST) == [1]
        await swarm.start(2)
        assert await swarm.places(SECOND) == [2]
        # It helps most where the slower of the two is.
        await swarm.start(3)
        both, alone = sorted([await swarm.places(FIRST), await swarm.places(SECOND)], key=len)[::-1]
        assert (len(both), len(alone)) == (2, 1)
        await wait_for_route(swarm.client)
        await assert_answers_are_right(swarm.client, model)

        # Now nobody has these blocks, and one of the two takes them over.
        await swarm.stop(*alone)
        await until_held(swarm.client, [FIRST, SECOND])
        await wait_for_route(swarm.client)
        await assert_answers_are_right(swarm.client, model)

        await swarm.start(4)
        assert len(await held(swarm.client)) == 3
        await assert_answers_are_right(swarm.client, model)


@pytest.mark.parametrize("keeps_both", [False, True])
async def test_no_request_fails_through_a_move(
    keeps_both: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This host has memory for both spans, or is short of it.
    monkeypatch.setattr(Blocks, "keeps_both", lambda *_: keeps_both)
    # What else runs here would make one of them faster than several others.
    monkeypatch.setattr(Blocks, "throughput", lambda _: 100.0)
    plan = balanced(tmp_path, model, 6, 6)
    for place in range(1, 7):
        change_config(plan, place, mean_balance_check_period=4)
    wanted = greedy_ids(model, PROMPTS, NEW_TOKENS)
    async with AsyncExitStack() as stack:
        swarm = Swarm(plan, stack)
        await swarm.start(0)
        await swarm.start(*range(1, 7))
        sizes = {span: len(await swarm.places(span)) for span in (FIRST, SECOND)}
        assert sum(sizes.values()) == 6
        weak = min(sizes, key=lambda span: sizes[span])
        _, *stopped = await swarm.places(weak)
        await swarm.stop(*stopped)
        alive = set(range(1, 7)) - set(stopped)
        answers = 0
        states: set[str] = set()
        async with asyncio.timeout(120):
            while len(await swarm.places(weak)) < 2:
                # As a deployment asks at such a moment.
                states |= {await swarm.health(place) for place in alive}
                _, end = await collect(swarm.client, REQUEST)
                assert [list(ids) for ids in end.token_ids] == wanted
                answers += 1
        assert answers > 0
        # Who loads beside what it serves never stops serving.
        assert states == ({"online"} if keeps_both else {"online", "moving"})
        await assert_answers_are_right(swarm.client, model)
