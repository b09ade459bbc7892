"""What a stage asks of an engine, whatever computes behind it."""

from typing import Protocol

import torch
from torch import Tensor

from runtime.spec.base import Span


class Cache(Protocol):
    """The keys and values of one session in one engine: a batch of sequences of equal length.

    Shorter prompts are padded on the left. A row's own position does not count its padding.

    Attributes:
        span: the blocks whose keys and values it holds.
        padding: how many tokens at the start of each row are padding.
        length: tokens per row that the engine has seen, padding included.
    """

    span: Span
    padding: tuple[int, ...]
    length: int

    @property
    def batch(self) -> int:
        """The number of rows."""

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values held now."""

    def close(self) -> None:
        """Free the memory; any later step is refused. Closing twice does nothing."""


class Engine(Protocol):
    """Runs the blocks of one span, all of them or some. Not safe for several threads at once.

    Attributes:
        span: the blocks it has loaded; empty for a stage that only embeds.
        total_blocks: the blocks of the whole model.
        hidden_size: the width of a hidden state.
        vocab_size: the number of token ids.
        dtype: of weights, hidden states and cache.
        device: where it computes; inputs are moved there.
        block_kv_bytes: bytes that one block's keys and values of one token take, at most.
        max_length: tokens a sequence may have, without its padding.
    """

    span: Span
    total_blocks: int
    hidden_size: int
    vocab_size: int
    dtype: torch.dtype
    device: torch.device
    block_kv_bytes: int
    max_length: int

    def open(self, padding: tuple[int, ...], span: Span | None = None) -> Cache:
        """Return an empty cache for one row per entry of `padding`.

        Args:
            padding: see `Cache`.
            span: the blocks that the session's steps run through; None: all that are loaded.

        Raises:
            SessionError: there is no row, a padding is negative, or the engine has not loaded a
                block of the span.
        """

    def embed(self, cache: Cache, ids: Tensor) -> Tensor:
        """Return the hidden states of the tokens that follow what the cache holds.

        The cache grows with `forward` or `logits`, one of which has to follow.

        Args:
            cache: of this engine.
            ids: int64 [batch, tokens].

        Returns:
            [batch, tokens, hidden].

        Raises:
            SessionError: the engine has no embeddings, the cache does not begin with its first
                block, or the cache or the shape does not fit.
            RequestError: an id is not in the vocabulary.
        """

    def forward(self, cache: Cache, hidden: Tensor) -> Tensor:
        """Run the cache's blocks over new tokens and remember their keys and values.

        Args:
            cache: of this engine.
            hidden: [batch, tokens, hidden].

        Returns:
            [batch, tokens, hidden].

        Raises:
            SessionError: the cache is closed or full, or the shape does not fit.
        """

    def logits(self, cache: Cache, hidden: Tensor) -> Tensor:
        """Run the cache's blocks, then the head for the last token of each row.

        Args:
            cache: of this engine.
            hidden: [batch, tokens, hidden].

        Returns:
            float32 [batch, vocab].

        Raises:
            SessionError: the engine has no head, the cache does not end with its last block, is
                closed or full, or the shape does not fit.
        """
