"""An engine that computes nothing, in its own time: for tests of what is done with one."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from runtime.engine.engine import Cache
from runtime.errors import SessionError
from runtime.spec.base import Span

HIDDEN = 4
MS = 1_000_000


class Room:
    """The cache of `Recorder`."""

    def __init__(self, span: Span, padding: tuple[int, ...], gate: threading.Event) -> None:
        self.span = span
        self.padding, self.length, self.batch, self.nbytes = padding, 0, len(padding), 0
        self.gate = gate

    def close(self) -> None:
        """Wait for the gate."""
        assert self.gate.wait(timeout=30), "nobody opened the gate"


class Recorder:
    """An engine that notes in which thread it ran; each step takes `step_ms` on its own clock.

    `cost` says how many steps one of so many tokens counts for, and `head_ms` what the head takes.
    """

    span, total_blocks, hidden_size, vocab_size = Span(start=2, end=6), 6, HIDDEN, 8
    dtype, device = torch.float32, torch.device("cpu")
    block_kv_bytes, max_length = 1 << 10, 64

    def __init__(self) -> None:
        self.now, self.step_ms, self.head_ms = 0, 1.0, 0.0
        self.cost: Callable[[Cache, int], float] = lambda _cache, _tokens: 1
        self.threads: list[threading.Thread] = []
        self.gate = threading.Event()
        self.gate.set()

    def monotonic_ns(self) -> int:
        """Stand in for `time`."""
        return self.now

    def open(self, padding: tuple[int, ...], span: Span | None = None) -> Room:
        """Return a cache, but not of blocks that it does not have."""
        if span is not None and not self.span.covers(span):
            raise SessionError("not loaded")
        return Room(span or self.span, padding, self.gate)

    def embed(self, cache: Cache, ids: Tensor) -> Tensor:
        """Return one hidden state for each id."""
        del cache
        return ids.unsqueeze(-1).expand(-1, -1, HIDDEN).float()

    def forward(self, cache: Cache, hidden: Tensor) -> Tensor:
        """Wait for the gate, let the time pass and return the input."""
        assert self.gate.wait(timeout=30), "nobody opened the gate"
        self.threads.append(threading.current_thread())
        self.now += int(self.step_ms * MS * self.cost(cache, hidden.shape[1]))
        cache.length += hidden.shape[1]
        return hidden

    def logits(self, cache: Cache, hidden: Tensor) -> Tensor:
        """Return the same for every token."""
        self.forward(cache, hidden)
        self.now += int(self.head_ms * MS)
        return torch.zeros(hidden.shape[0], self.vocab_size)
