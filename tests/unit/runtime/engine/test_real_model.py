"""SmolLM2-135M-Instruct: however it is split, its text is that of the unsplit model."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from runtime.engine.options import Sampling
from runtime.engine.sampling import sample
from tests.support.pipelines import Pipeline, generate

pytestmark = pytest.mark.slow

BLOCKS = 30
SPLITS = [(), (0,), (8, 16, 24), (1, 29), (5, 6, 20, 28)]
# Lengths of the prompts of one batch, and tokens to generate.
PROMPTS = [([1], 24), ([500], 8), ([3, 61, 150, 17], 10)]

Generated = tuple[torch.Tensor, tuple[int, ...], torch.Tensor, list[torch.Tensor]]


@pytest.fixture(scope="module")
def whole(sample_model: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(sample_model)


def words(lengths: list[int], seed: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return random tokens of these lengths, padded on the left."""
    chosen = random.Random(seed)
    longest = max(lengths)
    rows = [[0] * (longest - n) + [chosen.randrange(17, 49152) for _ in range(n)] for n in lengths]
    return torch.tensor(rows), tuple(longest - length for length in lengths)


@pytest.fixture(scope="module", params=PROMPTS, ids=str)
def generated(request: pytest.FixtureRequest, whole: PreTrainedModel) -> Generated:
    lengths, steps = request.param
    ids, padding = words(lengths, seed=steps)
    return ids, padding, *generate(whole, ids, padding, steps)


@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_any_split_generates_the_same_tokens(
    splits: tuple[int, ...], generated: Generated, sample_model: Path
) -> None:
    ids, padding, wanted_tokens, wanted = generated
    pipeline = Pipeline.of(sample_model, splits, BLOCKS)
    tokens, logits = pipeline.greedy(ids, padding, len(wanted))
    assert torch.equal(tokens, wanted_tokens)
    assert all(torch.equal(got, want) for got, want in zip(logits, wanted, strict=True))


def test_several_threads_change_nothing_about_that(
    whole: PreTrainedModel, sample_model: Path
) -> None:
    ids, padding = words([40, 25], seed=9)
    torch.set_num_threads(2)
    try:
        _, wanted = generate(whole, ids, padding, 4)
        _, logits = Pipeline.of(sample_model, (8, 16, 24), BLOCKS).greedy(ids, padding, 4)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(got, want) for got, want in zip(logits, wanted, strict=True))


@pytest.fixture
def question(sample_model: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids: torch.Tensor = tokenizer(text, return_tensors="pt").input_ids
    return ids


def test_it_answers_a_question(question: torch.Tensor, sample_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    tokens, _ = Pipeline.of(sample_model, (8, 16, 24), BLOCKS).greedy(question, (0,), 8)
    assert tokenizer.decode(tokens[0]) == "The capital of France is Paris.<|im_end|>"


def test_a_seed_gives_the_same_sample_on_any_split(
    question: torch.Tensor, sample_model: Path
) -> None:
    def sampled(splits: tuple[int, ...], seed: int) -> list[int]:
        pipeline = Pipeline.of(sample_model, splits, BLOCKS)
        caches = [engine.open((0,)) for engine in pipeline.engines]
        ids, found = question, []
        options = Sampling(temperature=1.0, top_k=100, top_p=0.9, seed=seed)
        for _ in range(16):
            hidden = pipeline.engines[0].embed(caches[0], ids)
            for engine, cache in zip(pipeline.engines[:-1], caches[:-1], strict=True):
                hidden = engine.forward(cache, hidden)
            logits = pipeline.engines[-1].logits(caches[-1], hidden)
            found += sample(logits, options, [caches[-1].length])
            ids = torch.tensor([found[-1:]])
        return found

    first = sampled((), seed=1)
    assert sampled((8, 16, 24), seed=1) == first
    assert sampled((8, 16, 24), seed=2) != first
