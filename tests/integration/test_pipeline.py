"""Whole pipelines against the unsplit model: the same tokens, whatever the split."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from runtime.client.request import GenerationRequest, RouteEvent
from tests.support.models import import_tiny
from tests.support.swarm import collect, swarm_in_process

PROMPTS = ("Hello, pipeline", "a", "The quick brown fox jumps over the lazy dog, twice over.")


def greedy_ids(model: Path, prompts: tuple[str, ...], new_tokens: int) -> list[list[int]]:
    """Return what transformers' own unsplit `generate` continues the prompts with."""
    from runtime.client.prompts import Tokenizer

    tokenizer = Tokenizer(model)
    batch = tokenizer.batch(GenerationRequest(prompts=prompts))
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    mask = torch.ones_like(batch.ids)
    for row, padding in enumerate(batch.padding):
        mask[row, :padding] = 0
    with torch.inference_mode():
        ids = whole.generate(
            batch.ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            pad_token_id=tokenizer.pad,
        )
    return [row[batch.ids.shape[1] :].tolist() for row in ids]


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
