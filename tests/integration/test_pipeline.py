"""Whole pipelines against the unsplit model: the same tokens, whatever the split."""

from pathlib import Path

import pytest

from runtime.client.request import GenerationRequest, RouteEvent
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import collect, swarm_in_process

PROMPTS = ("Hello, pipeline", "a", "The quick brown fox jumps over the lazy dog, twice over.")


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of five blocks."""
    return import_tiny(request.param, tmp_path_factory.mktemp("model"))[1]


@pytest.mark.parametrize("splits", [(), (2,), (1, 4), (1, 2, 3), (1, 2, 3, 4)])
async def test_a_pipeline_gives_the_unsplit_models_tokens(
    tiny: Path, splits: tuple[int, ...], tmp_path: Path
) -> None:
    async with swarm_in_process(tmp_path, tiny, splits) as client:
        for prompts in (PROMPTS[:1], PROMPTS):
            request = GenerationRequest(prompts=prompts, max_new_tokens=12, ignore_eos=True)
            events, end = await collect(client, request)
            assert [list(ids) for ids in end.token_ids] == greedy_ids(tiny, prompts, 12)
            opened = events[0]
            assert isinstance(opened, RouteEvent)
            assert [hop.stage for hop in opened.route] == list(range(len(splits) + 1))
            assert opened.direct
