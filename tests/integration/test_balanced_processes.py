"""Servers that choose their blocks, as processes: the guide's four, a fifth, and a death."""

from pathlib import Path

import pytest

from runtime.client.request import GenerationRequest
from tests.support.balanced import BalancedSwarm, balanced, balanced_swarm, held
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import collect, wait_for_route

BLOCKS, NUM_BLOCKS, SERVERS = 32, 8, 4
QUARTERS = [(start, start + NUM_BLOCKS) for start in range(0, BLOCKS, NUM_BLOCKS)]
PROMPTS, NEW_TOKENS = ("Hello, pipeline", "a"), 8
REQUEST = GenerationRequest(prompts=PROMPTS, max_new_tokens=NEW_TOKENS, ignore_eos=True)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of as many blocks as the guide's."""
    return import_tiny("llama", tmp_path_factory.mktemp("model"), num_hidden_layers=BLOCKS)[1]


async def assert_answer_is_right(swarm: BalancedSwarm, model: Path) -> None:
    await wait_for_route(swarm.client)
    _, end = await collect(swarm.client, REQUEST)
    assert [list(ids) for ids in end.token_ids] == greedy_ids(model, PROMPTS, NEW_TOKENS)


async def test_the_guides_four_servers_a_fifth_and_a_death(model: Path, tmp_path: Path) -> None:
    plan = balanced(tmp_path, model, SERVERS + 1, NUM_BLOCKS, announce_period_seconds=2)
    async with balanced_swarm(plan) as swarm:
        await swarm.start(*range(1, SERVERS + 1))
        assert await held(swarm.client) == QUARTERS
        await assert_answer_is_right(swarm, model)

        await swarm.start(SERVERS + 1)
        spans = await swarm.spans()
        assert set(spans.values()) == set(QUARTERS)
        await assert_answer_is_right(swarm, model)

        # One dies whose blocks nobody else has: one of those that are not needed takes its place.
        held_once = [place for place, span in spans.items() if [*spans.values()].count(span) == 1]
        swarm.kill(held_once[0])
        await swarm.until_covered(BLOCKS, without=held_once[0])
        await assert_answer_is_right(swarm, model)
