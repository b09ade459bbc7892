"""The engine that runs every supported family by transformers' own code, exact on a CPU."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from runtime.engine.device import resolve_device
from runtime.engine.engine import Cache
from runtime.errors import ModelError, RequestError, SessionError
from runtime.model.check import check_model
from runtime.model.dtype import DTYPES
from runtime.model.going import Going
from runtime.model.loader import SpanModel, load_span
from runtime.model.manifest import Manifest
from runtime.spec.base import Span


class _PartStates(DynamicCache):  # type: ignore[misc]  # transformers ships no types
    """transformers' cache of blocks that are loaded behind others, and number themselves so."""

    def __init__(self, config: PreTrainedConfig, before: int) -> None:
        super().__init__(config=config)
        self._before = before

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Remember the keys and values of a block's new tokens, and return those of all tokens."""
        own = layer_idx - self._before
        known: tuple[Tensor, Tensor] = super().update(keys, values, own, *args, **kwargs)
        return known


class ReferenceCache:
    """See `engine.Cache`.

    Attributes:
        blocks: what its steps run through: a base model without its edges.
        states: transformers' own cache; None once closed.
    """

    def __init__(
        self, span: Span, padding: tuple[int, ...], blocks: PreTrainedModel, states: DynamicCache
    ) -> None:
        self.span = span
        self.padding = padding
        self.length = 0
        self.blocks = blocks
        self.states: DynamicCache | None = states
        self._padding = torch.tensor(padding).unsqueeze(1)

    @property
    def batch(self) -> int:
        """The number of rows."""
        return len(self.padding)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values held now."""
        if self.states is None:
            return 0
        return sum(
            states.nbytes
            for layer in self.states.layers
            if layer.is_initialized
            for states in (layer.keys, layer.values)
        )

    def close(self) -> None:
        """Free the memory."""
        self.states = None

    def positions(self, tokens: int) -> Tensor:
        """Return int64 [batch, tokens]: each new token's position in its own row, 0 for padding."""
        places = torch.arange(self.length, self.length + tokens)
        return (places - self._padding).clamp(min=0)

    def mask(self, tokens: int) -> Tensor | None:
        """Return int64 [batch, length + tokens], 0 for padding; None if there is none at all.

        None is also what `generate` passes on then, and lets torch take its faster kernels.
        """
        if not any(self.padding):
            return None
        return (torch.arange(self.length + tokens) >= self._padding).long()


class ReferenceEngine:
    """See `engine.Engine`."""

    def __init__(
        self, manifest: Manifest, span: Span, model: SpanModel, device: torch.device
    ) -> None:
        self.span = span
        self.total_blocks = manifest.total_blocks
        self.hidden_size = manifest.hidden_size
        self.vocab_size = manifest.vocab_size
        self.dtype: torch.dtype = model.config.dtype
        self.device = device
        self.max_length = manifest.max_length
        self.block_kv_bytes = _block_kv_numbers(model.config) * self.dtype.itemsize
        self._model = model

    def open(self, padding: tuple[int, ...], span: Span | None = None) -> ReferenceCache:
        """See `Engine.open`."""
        if not padding or min(padding) < 0:
            raise SessionError(
                f"a session needs at least one row and no negative padding: {padding}"
            )
        if span is None or span == self.span:
            states = DynamicCache(config=self._model.config)
            return ReferenceCache(self.span, padding, self._model.blocks, states)
        if not self.span.covers(span):
            raise SessionError(f"a session wants blocks {span}; loaded are {self.span}")
        before = span.start - self.span.start
        blocks = self._model.part(Span(start=before, end=before + len(span)))
        return ReferenceCache(span, padding, blocks, _PartStates(blocks.config, before))

    @torch.inference_mode()
    def embed(self, cache: Cache, ids: Tensor) -> Tensor:
        """See `Engine.embed`."""
        own = self._usable(cache, ids, 2)
        if self._model.tokens is None:
            raise SessionError(f"the stage of span {self.span} has no embeddings")
        if own.span.start != self.span.start:
            raise SessionError(f"a session of blocks {own.span} does not begin with token ids")
        if bool(((ids < 0) | (ids >= self.vocab_size)).any()):
            raise RequestError(f"a token id is not in the vocabulary of {self.vocab_size}")
        hidden: Tensor = self._model.tokens(ids.to(self.device))
        if self._model.positions is not None:
            hidden = hidden + self._model.positions(own.positions(ids.shape[1]).to(self.device))
        return hidden

    @torch.inference_mode()
    def forward(self, cache: Cache, hidden: Tensor) -> Tensor:
        """See `Engine.forward`."""
        own = self._usable(cache, hidden, 3)
        tokens = hidden.shape[1]
        hidden = hidden.to(self.device, self.dtype)
        if len(own.span):
            mask = own.mask(tokens)
            hidden = own.blocks(
                inputs_embeds=hidden,
                attention_mask=None if mask is None else mask.to(self.device),
                position_ids=own.positions(tokens).to(self.device),
                past_key_values=own.states,
                use_cache=True,
            ).last_hidden_state
        own.length += tokens
        return hidden

    @torch.inference_mode()
    def logits(self, cache: Cache, hidden: Tensor) -> Tensor:
        """See `Engine.logits`."""
        if self._model.head is None:
            raise SessionError(f"the stage of span {self.span} has no head")
        if cache.span.end != self.span.end:
            raise SessionError(f"a session of blocks {cache.span} does not end with the head")
        hidden = self.forward(cache, hidden)
        logits: Tensor = self._model.head(inputs_embeds=hidden, logits_to_keep=1).logits
        return logits[:, -1].float()

    def _usable(self, cache: Cache, new: Tensor, dimensions: int) -> ReferenceCache:
        """Return the cache as this engine's own, after checking that `new` can follow it."""
        if not isinstance(cache, ReferenceCache) or cache.states is None:
            raise SessionError("the session was closed", "open a new session")
        wanted = (cache.batch, new.shape[1] if new.dim() > 1 else 1, self.hidden_size)[:dimensions]
        if tuple(new.shape) != wanted or new.numel() == 0:
            raise SessionError(f"a step has shape {tuple(new.shape)} instead of {wanted}")
        longest = cache.length + new.shape[1] - min(cache.padding)
        if longest > self.max_length:
            raise SessionError(
                f"a sequence would have {longest} tokens; the model takes {self.max_length}",
                "shorten the prompt or ask for fewer tokens",
            )
        return cache


def load_engine(
    directory: Path,
    span: Span,
    *,
    device: str = "auto",
    dtype: str = "auto",
    embeddings: bool | None = None,
    head: bool | None = None,
    going: Going = lambda: None,
) -> ReferenceEngine:
    """Load a span and return the engine that runs it.

    Args:
        directory: an imported model.
        span: the blocks to run; may be empty.
        device: auto, cpu, cuda or cuda:N.
        dtype: float32, bfloat16, float16, or auto for what the directory holds.
        embeddings: whether it embeds token ids; default: it has block 0.
        head: whether it makes logits; default: it has the last block.
        going: called before each block; what it raises ends this.

    Raises:
        ConfigError: the device is not there.
        ModelError: the directory cannot serve this span.
    """
    where = resolve_device(device)
    manifest = check_model(directory, span, embeddings=embeddings, head=head)
    if dtype not in {"auto", *DTYPES}:
        raise ModelError(f"dtype '{dtype}' is unknown", f"use auto or one of {', '.join(DTYPES)}")
    model = load_span(
        directory,
        span,
        embeddings=span.start == 0 if embeddings is None else embeddings,
        head=span.end == manifest.total_blocks if head is None else head,
        device=where,
        dtype=next(
            (known for name, known in DTYPES.items() if name == dtype), DTYPES[manifest.dtype]
        ),
        going=going,
    )
    return ReferenceEngine(manifest, span, model, where)


def _block_kv_numbers(config: PreTrainedConfig) -> int:
    """Return how many numbers one block keeps of one token: its keys and its values."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * heads * width)
