"""A pipeline of engines in one process, and the unsplit model to compare it with."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from runtime.client.prompts import Tokenizer
from runtime.client.request import GenerationRequest
from runtime.engine.options import Sampling
from runtime.engine.reference import ReferenceEngine, load_engine
from runtime.engine.sampling import sample
from runtime.model.manifest import read_manifest
from runtime.spec.base import Span


@lru_cache(maxsize=40)
def _engine(directory: Path, start: int, end: int, dtype: str) -> ReferenceEngine:
    """Load a span once: random splits of one model share many spans."""
    return load_engine(directory, Span(start=start, end=end), device="cpu", dtype=dtype)


def tiles(splits: Sequence[int], total: int) -> list[Span]:
    """Return the spans between these blocks; `splits` may begin with 0 for an empty one."""
    return [Span(start=start, end=end) for start, end in pairwise((0, *splits, total))]


class Pipeline:
    """Engines that together run every block of the model once."""

    def __init__(self, engines: Sequence[ReferenceEngine], spans: Sequence[Span]) -> None:
        self.engines = engines
        self._spans = spans

    @classmethod
    def of(
        cls, directory: Path, splits: Sequence[int], total: int, dtype: str = "auto"
    ) -> "Pipeline":
        """Load one engine per stage; `splits` are the first blocks of stages 1 and on."""
        spans = tiles(splits, total)
        return cls([_engine(directory, span.start, span.end, dtype) for span in spans], spans)

    @classmethod
    def over(cls, directory: Path, legs: Sequence[tuple[Span, Span]]) -> "Pipeline":
        """Load for each leg the first span and run the second, which is part of it."""
        engines = [_engine(directory, loaded.start, loaded.end, "auto") for loaded, _ in legs]
        return cls(engines, [run for _, run in legs])

    def greedy(
        self, ids: Tensor, padding: tuple[int, ...], steps: int, chunks: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the likeliest tokens [batch, steps] and the logits of every step.

        Args:
            ids: int64 [batch, tokens], padded on the left.
            padding: per row.
            steps: how many tokens to generate.
            chunks: where to cut the prompt; each piece but the last only fills the caches.
        """
        caches = [
            engine.open(padding, span)
            for engine, span in zip(self.engines, self._spans, strict=True)
        ]
        first, last = self.engines[0], self.engines[-1]
        bounds = (0, *chunks, ids.shape[1])
        pieces = [ids[:, start:end] for start, end in pairwise(bounds)]
        tokens: list[Tensor] = []
        logits: list[Tensor] = []
        for _ in range(steps):
            for piece in pieces:
                hidden = first.embed(caches[0], piece)
                for engine, cache in zip(self.engines[:-1], caches[:-1], strict=True):
                    hidden = engine.forward(cache, hidden)
                if piece is pieces[-1]:
                    logits.append(last.logits(caches[-1], hidden))
                else:
                    last.forward(caches[-1], hidden)
            tokens.append(logits[-1].argmax(-1, keepdim=True))
            pieces = [tokens[-1]]
        for cache in caches:
            cache.close()
        return torch.cat(tokens, dim=1), logits


def generate(
    model: PreTrainedModel, ids: Tensor, padding: tuple[int, ...], steps: int
) -> tuple[Tensor, list[Tensor]]:
    """Return what `Pipeline.greedy` should: transformers' own `generate` on the unsplit model."""
    mask = (torch.arange(ids.shape[1]) >= torch.tensor(padding).unsqueeze(1)).long()
    model.generation_config.eos_token_id = None  # every row runs to the end
    found = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return found.sequences[:, ids.shape[1] :], list(found.logits)


def sampled_ids(
    model: Path, prompts: tuple[str, ...], new_tokens: int, sampling: Sampling
) -> list[list[int]]:
    """Return what the unsplit model draws behind the prompts."""
    batch = Tokenizer(model).batch(GenerationRequest(prompts=prompts))
    whole = load_engine(model, Span(start=0, end=read_manifest(model).total_blocks), device="cpu")
    cache, ids = whole.open(batch.padding), batch.ids
    found: list[list[int]] = []
    for _ in range(new_tokens):
        logits = whole.logits(cache, whole.embed(cache, ids))
        positions = [cache.length - padding for padding in batch.padding]
        found.append(sample(logits, sampling, positions))
        ids = torch.tensor(found[-1]).unsqueeze(1)
    return [list(row) for row in zip(*found, strict=True)]


def greedy_ids(model: Path, prompts: tuple[str, ...], new_tokens: int) -> list[list[int]]:
    """Return what transformers' own unsplit `generate` continues the prompts with."""
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
