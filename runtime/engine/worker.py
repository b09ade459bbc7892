"""The one thread that computes, and the memory its sessions may take.

torch works in a thread of its own, so that connections, heartbeats and health checks never wait
for a block. Work is done in the order in which it arrives.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from runtime.engine.engine import Cache, Engine
from runtime.engine.options import Sampling
from runtime.engine.sampling import sample
from runtime.errors import ServerFullError

Result = TypeVar("Result")
_MIB = 1 << 20
_MEASURED_STEPS = 8


@dataclass(frozen=True)
class Slot:
    """A session's place on this server: its keys and values, and the memory kept for them."""

    cache: Cache
    padding: tuple[int, ...]
    max_length: int
    reserved_bytes: int

    @property
    def length(self) -> int:
        """How many positions each sequence has so far, padding included."""
        return self.cache.length


@dataclass(frozen=True)
class Timed(Generic[Result]):
    """A result, and when it was computed on the monotonic clock, in nanoseconds."""

    value: Result
    started: int
    finished: int


class Worker:
    """Computes one span's blocks for many sessions."""

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor, kv_cache_mib: int) -> None:
        """Use `load`, which makes the thread too.

        Args:
            engine: the loaded span.
            thread: the only one that uses the engine; torch's settings hold for one thread.
            kv_cache_mib: what all sessions' keys and values may take together, in MiB.
        """
        self.engine = engine
        self.kv_total_bytes = kv_cache_mib * _MIB
        self.kv_used_bytes = 0
        self._thread = thread

    @classmethod
    async def load(cls, load: Callable[[], Engine], kv_cache_mib: int) -> "Worker":
        """Return a worker for the engine that `load` makes, in the thread that will use it."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        try:
            engine = await asyncio.get_running_loop().run_in_executor(thread, load)
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
        return cls(engine, thread, kv_cache_mib)

    def stop(self) -> None:
        """Finish the work that has been started and take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def open(self, padding: tuple[int, ...], max_length: int) -> Slot:
        """Return room for a batch of sequences, one for each entry of `padding`.

        Raises:
            ServerFullError: the budget does not hold it now.
        """
        wanted = len(padding) * max_length * self.engine.kv_bytes_per_token
        free = self.kv_total_bytes - self.kv_used_bytes
        if wanted > free:
            raise ServerFullError(
                f"{len(padding)} x {max_length} tokens need {wanted / _MIB:.0f} MiB for keys and "
                f"values; {free / _MIB:.0f} of {self.kv_total_bytes / _MIB:.0f} MiB are free",
                hint="try again later, ask for fewer tokens, or raise serving.kv_cache_mib",
            )
        self.kv_used_bytes += wanted
        return Slot(self.engine.open(padding), padding, max_length, wanted)

    def close(self, slot: Slot) -> None:
        """Free a session's room, after whatever is being computed for it."""
        self._thread.submit(slot.cache.close)
        self.kv_used_bytes -= slot.reserved_bytes

    async def forward(self, slot: Slot, hidden: Tensor) -> Timed[Tensor]:
        """Return hidden states `[batch, tokens, hidden]` behind this span's blocks."""
        return await self._compute(lambda: self.engine.forward(slot.cache, hidden))

    async def forward_ids(self, slot: Slot, ids: Tensor) -> Timed[Tensor]:
        """Return hidden states for token ids `[batch, tokens]`, embedded and run through."""
        engine = self.engine
        return await self._compute(
            lambda: engine.forward(slot.cache, engine.embed(slot.cache, ids))
        )

    async def next_ids(
        self, slot: Slot, hidden: Tensor, sampling: Sampling
    ) -> Timed[tuple[int, ...]]:
        """Return each sequence's next token; only the last stage can."""
        return await self._compute(
            lambda: self._sample(slot, self.engine.logits(slot.cache, hidden), sampling)
        )

    async def next_ids_alone(
        self, slot: Slot, ids: Tensor, sampling: Sampling
    ) -> Timed[tuple[int, ...]]:
        """Return each sequence's next token from token ids, where one stage holds all blocks."""
        engine = self.engine
        return await self._compute(
            lambda: self._sample(
                slot, engine.logits(slot.cache, engine.embed(slot.cache, ids)), sampling
            )
        )

    async def throughput(self) -> float:
        """Return how many decode steps a second one sequence gets from this span."""
        if len(self.engine.span) == 0:
            return 0.0
        slot = self.open((0,), _MEASURED_STEPS + 1)
        hidden = torch.zeros(1, 1, self.engine.hidden_size, dtype=self.engine.dtype)
        hidden = hidden.to(self.engine.device)
        try:
            await self.forward(slot, hidden)
            steps = [await self.forward(slot, hidden) for _ in range(_MEASURED_STEPS)]
        finally:
            self.close(slot)
        durations = sorted(step.finished - step.started for step in steps)
        return 1e9 / durations[len(durations) // 2]

    @staticmethod
    def _sample(slot: Slot, logits: Tensor, sampling: Sampling) -> tuple[int, ...]:
        positions = [slot.length - padding for padding in slot.padding]
        return tuple(sample(logits, sampling, positions))

    async def _compute(self, work: Callable[[], Result]) -> Timed[Result]:
        def timed() -> Timed[Result]:
            started = time.monotonic_ns()
            value = work()
            return Timed(value, started, time.monotonic_ns())

        return await asyncio.get_running_loop().run_in_executor(self._thread, timed)
