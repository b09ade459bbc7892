"""The reference engine: any split of any supported family computes what the whole model does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from runtime.engine.engine import Engine
from runtime.engine.reference import load_engine
from runtime.errors import ModelError, RequestError, SessionError
from runtime.model.architecture import SUPPORTED
from runtime.spec.base import Span
from tests.support.models import BLOCKS, BYTES, VOCABULARY, import_tiny
from tests.support.pipelines import Pipeline, generate, tiles

Whole = tuple[PreTrainedModel, Path]

# Positions that are scaled: by factors per frequency, and by one that depends on the length.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in SUPPORTED},
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False}),
    "llama, rope of llama 3": ("llama", {"rope_parameters": LLAMA3}),
    "qwen2, yarn": ("qwen2", {"rope_parameters": YARN}),
}


@pytest.fixture(scope="module", params=MODELS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    family, changes = MODELS[request.param]
    return import_tiny(family, tmp_path_factory.mktemp("tiny"), **changes)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return import_tiny("llama", tmp_path_factory.mktemp("llama"))


@st.composite
def prompts(draw: st.DrawFn) -> tuple[torch.Tensor, tuple[int, ...]]:
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    longest = max(lengths)
    seed = draw(st.integers(0, 2**32))
    ids = torch.randint(
        BYTES, (len(lengths), longest), generator=torch.Generator().manual_seed(seed)
    )
    return ids, tuple(longest - length for length in lengths)


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, ...]:
    """Draw 1 to 5 stages; stage 0 may have no block."""
    return tuple(sorted(draw(st.sets(st.integers(0, BLOCKS - 1), max_size=4))))


@st.composite
def covers(draw: st.DrawFn) -> list[tuple[Span, Span]]:
    """Draw servers whose spans overlap, and which blocks each of them runs."""

    def loaded(run: Span) -> Span:
        start = draw(st.integers(0, run.start))
        return Span(start=start, end=draw(st.integers(run.end, BLOCKS)))

    return [(loaded(run), run) for run in tiles(draw(splits()), BLOCKS)]


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(splits=splits(), prompt=prompts(), steps=st.integers(1, 10))
def test_any_split_gives_the_whole_models_logits(
    whole: Whole,
    splits: tuple[int, ...],
    prompt: tuple[torch.Tensor, tuple[int, ...]],
    steps: int,
) -> None:
    model, directory = whole
    ids, padding = prompt
    wanted_tokens, wanted = generate(model, ids, padding, steps)
    tokens, logits = Pipeline.of(directory, splits, BLOCKS).greedy(ids, padding, steps)
    assert torch.equal(tokens, wanted_tokens)
    for step, (got, want) in enumerate(zip(logits, wanted, strict=True)):
        assert got.dtype is torch.float32
        assert torch.equal(got, want), f"step {step}"


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(legs=covers(), prompt=prompts(), steps=st.integers(1, 10))
def test_any_way_through_overlapping_spans_gives_the_whole_models_logits(
    whole: Whole,
    legs: list[tuple[Span, Span]],
    prompt: tuple[torch.Tensor, tuple[int, ...]],
    steps: int,
) -> None:
    model, directory = whole
    ids, padding = prompt
    wanted_tokens, wanted = generate(model, ids, padding, steps)
    tokens, logits = Pipeline.over(directory, legs).greedy(ids, padding, steps)
    assert torch.equal(tokens, wanted_tokens)
    assert all(torch.equal(got, want) for got, want in zip(logits, wanted, strict=True))


def test_sessions_of_different_blocks_share_one_engine(whole: Whole) -> None:
    """Their steps alternate, and each session's cache holds its own blocks only."""
    _, directory = whole
    engine = load_engine(directory, Span(start=1, end=BLOCKS), device="cpu")
    runs = [Span(start=1, end=2), Span(start=2, end=4), Span(start=1, end=5)]
    apart = [load_engine(directory, run, device="cpu", head=False) for run in runs]
    caches = [engine.open((0, 3), run) for run in runs]
    theirs = [one.open((0, 3)) for one in apart]
    hidden = torch.randn(2, 9, engine.hidden_size, generator=torch.Generator().manual_seed(1))
    for piece in (hidden, hidden[:, :1], hidden[:, 1:2]):
        for run, cache, one, other in zip(runs, caches, apart, theirs, strict=True):
            assert torch.equal(engine.forward(cache, piece), one.forward(other, piece))
            assert cache.nbytes == other.nbytes > 0
            assert cache.nbytes <= 2 * 11 * len(run) * engine.block_kv_bytes


def test_a_session_begins_and_ends_where_its_blocks_do(llama: Whole) -> None:
    _, directory = llama
    engine = load_engine(directory, Span(start=0, end=BLOCKS), device="cpu")
    hidden = torch.zeros(1, 1, 32)
    with pytest.raises(SessionError, match=r"blocks \[0, 4\) does not end with the head"):
        engine.logits(engine.open((0,), Span(start=0, end=4)), hidden)
    with pytest.raises(SessionError, match=r"blocks \[1, 5\) does not begin with token ids"):
        engine.embed(engine.open((0,), Span(start=1, end=5)), torch.zeros(1, 1, dtype=torch.long))
    part = load_engine(directory, Span(start=1, end=3), device="cpu")
    for start, end in ((0, 2), (2, 4), (3, 5)):
        with pytest.raises(SessionError, match=r"loaded are \[1, 3\)"):
            part.open((0,), Span(start=start, end=end))
    nothing = part.open((0,), Span(start=2, end=2))
    assert torch.equal(part.forward(nothing, hidden), hidden)
    assert nothing.nbytes == 0


def test_a_prompt_in_chunks_gives_the_same_tokens(whole: Whole) -> None:
    model, directory = whole
    ids = torch.randint(BYTES, (3, 17), generator=torch.Generator().manual_seed(1))
    padding = (0, 9, 4)
    wanted, _ = generate(model, ids, padding, 8)
    pipeline = Pipeline.of(directory, (0, 2), BLOCKS)
    for chunks in ((5,), (1, 8, 16)):
        tokens, _ = pipeline.greedy(ids, padding, 8, chunks)
        assert torch.equal(tokens, wanted)


def test_transformers_loads_the_same_directory(whole: Whole) -> None:
    model, directory = whole
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        assert torch.equal(
            AutoModelForCausalLM.from_pretrained(directory)(ids).logits, model(ids).logits
        )


def test_the_cache_grows_as_announced(whole: Whole) -> None:
    _, directory = whole
    engine = load_engine(directory, Span(start=1, end=4), device="cpu")
    cache = engine.open((0, 2))
    assert cache.nbytes == 0
    engine.forward(cache, torch.randn(2, 4, engine.hidden_size))
    assert cache.length == 4
    assert cache.nbytes == 2 * 4 * 3 * engine.block_kv_bytes
    engine.forward(cache, torch.randn(2, 30, engine.hidden_size))
    assert cache.nbytes <= 2 * 34 * 3 * engine.block_kv_bytes  # sliding windows forget
    cache.close()
    cache.close()
    assert cache.nbytes == 0
    with pytest.raises(SessionError, match="closed"):
        engine.forward(cache, torch.randn(2, 1, engine.hidden_size))


def test_sessions_do_not_disturb_each_other(llama: Whole) -> None:
    model, directory = llama
    pipeline = Pipeline.of(directory, (), BLOCKS)
    [engine] = pipeline.engines
    prompts = [torch.arange(5).view(1, 5), torch.arange(60, 68).view(1, 8)]
    wanted = [generate(model, ids, (0,), 6)[0] for ids in prompts]
    caches = [engine.open((0,)) for _ in prompts]
    steps = list(prompts)
    found: tuple[list[torch.Tensor], ...] = ([], [])
    for _ in range(6):
        for which, cache in enumerate(caches):
            logits = engine.logits(cache, engine.embed(cache, steps[which]))
            steps[which] = logits.argmax(-1, keepdim=True)
            found[which].append(steps[which])
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(torch.cat(got, dim=1), want)


def test_edges_can_be_apart_from_the_blocks(llama: Whole) -> None:
    """Stage 0 of a balanced fleet embeds and samples; the servers hold the blocks."""
    model, directory = llama
    edges = load_engine(directory, Span(start=0, end=0), device="cpu", head=True)
    blocks = load_engine(
        directory, Span(start=0, end=BLOCKS), device="cpu", embeddings=False, head=False
    )
    ids = torch.arange(7).view(1, 7)
    own, theirs = edges.open((0,)), blocks.open((0,))
    hidden = blocks.forward(theirs, edges.embed(own, ids))
    logits = edges.logits(own, hidden)
    assert torch.equal(logits, generate(model, ids, (0,), 1)[1][0])
    assert own.nbytes == 0
    with pytest.raises(SessionError, match="no head"):
        blocks.logits(theirs, hidden)
    with pytest.raises(SessionError, match="no embeddings"):
        blocks.embed(theirs, ids)


def test_weights_are_cast_to_the_number_format_asked_for(llama: Whole) -> None:
    model, directory = llama
    ids = torch.arange(9).view(1, 9)
    wanted, _ = generate(
        AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16), ids, (0,), 6
    )
    pipeline = Pipeline.of(directory, (2,), BLOCKS, dtype="bfloat16")
    assert torch.equal(pipeline.greedy(ids, (0,), 6)[0], wanted)
    assert {engine.dtype for engine in pipeline.engines} == {torch.bfloat16}
    assert model.dtype is torch.float32


def test_an_engine_says_what_it_is(llama: Whole) -> None:
    _, directory = llama
    engine: Engine = load_engine(directory, Span(start=1, end=3), device="cpu")
    assert (engine.total_blocks, engine.hidden_size) == (BLOCKS, 32)
    assert (engine.vocab_size, engine.max_length) == (VOCABULARY, 256)
    assert (engine.dtype, engine.device) == (torch.float32, torch.device("cpu"))
    assert engine.block_kv_bytes == 2 * 2 * 8 * 4  # k and v, heads, width, bytes


def test_what_does_not_fit_is_refused(llama: Whole) -> None:
    _, directory = llama
    engine = load_engine(directory, Span(start=0, end=BLOCKS), device="cpu")
    for padding in ((), (-1,)):
        with pytest.raises(SessionError, match="at least one row"):
            engine.open(padding)
    cache = engine.open((0,))
    with pytest.raises(RequestError, match="not in the vocabulary"):
        engine.embed(cache, torch.tensor([[VOCABULARY]]))
    with pytest.raises(RequestError, match="not in the vocabulary"):
        engine.embed(cache, torch.tensor([[-1]]))
    for shape in ((2, 1, 32), (1, 1, 31), (1, 0, 32), (1, 32), (1,)):
        with pytest.raises(SessionError, match="a step has shape"):
            engine.forward(cache, torch.zeros(shape))
    engine.forward(cache, torch.zeros(1, 256, 32))
    with pytest.raises(SessionError, match="257 tokens; the model takes 256"):
        engine.forward(cache, torch.zeros(1, 1, 32))


def test_padding_does_not_count_towards_the_longest_sequence(llama: Whole) -> None:
    _, directory = llama
    engine = load_engine(directory, Span(start=1, end=2), device="cpu")
    cache = engine.open((10, 12))
    engine.forward(cache, torch.zeros(2, 266, 32))
    with pytest.raises(SessionError, match="257 tokens"):
        engine.forward(cache, torch.zeros(2, 1, 32))


def test_a_span_or_number_format_that_is_not_there_is_refused(llama: Whole) -> None:
    _, directory = llama
    with pytest.raises(ModelError, match=r"\[3, 6\) reaches past the model's 5 blocks"):
        load_engine(directory, Span(start=3, end=BLOCKS + 1), device="cpu")
    with pytest.raises(ModelError, match="dtype 'int8' is unknown"):
        load_engine(directory, Span(start=0, end=1), device="cpu", dtype="int8")
