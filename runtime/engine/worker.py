"""Where and when blocks are computed, and the memory that sessions may take.

torch works in a thread of its own, so that connections, heartbeats and health checks do not wait
for a block; only decode steps too short to be worth the hand-over run on the event loop
(docs/decisions/0012-short-steps-on-the-loop.md). Work is done in the order in which it arrives.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from runtime.engine.engine import Cache, Engine
from runtime.engine.options import Sampling
from runtime.engine.pace import Pace
from runtime.engine.sampling import sample
from runtime.errors import ServerFullError
from runtime.model.going import Going
from runtime.spec.base import Span

Result = TypeVar("Result")
_MIB = 1 << 20
# Longer decode steps leave the event loop: it answers heartbeats and health checks within this.
_SHORT_STEP_NS = 50_000_000


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
    """Computes one span's blocks for many sessions.

    Attributes:
        engine: the loaded span.
        kv_total_bytes: what all sessions' keys and values may take together.
        kv_used_bytes: what those that are open may take.
        pace: how fast it computes; None until that has been measured.
    """

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor, kv_cache_mib: int) -> None:
        """Use `load`, which makes the thread too.

        Args:
            engine: the loaded span; never used by two threads at once.
            thread: where everything but short steps is computed.
            kv_cache_mib: what all sessions' keys and values may take together, in MiB.
        """
        self.engine = engine
        self.kv_total_bytes = kv_cache_mib * _MIB
        self.kv_used_bytes = 0
        self.pace: Pace | None = None
        self._thread = thread
        self._handed_over: list[Future[Any]] = []
        # Until a decode step has been measured, none counts as short.
        self._decode_ns = _SHORT_STEP_NS

    @classmethod
    async def load(
        cls, load: Callable[[Going], Engine], kv_cache_mib: int, threads: int = 0
    ) -> "Worker":
        """Return a worker for the engine that `load` makes, in the thread that will use it.

        Args:
            load: calls its argument now and then, so that it ends when this is cancelled.
            kv_cache_mib: see `__init__`.
            threads: CPU threads of the whole process; 0: torch's own choice.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        loop = asyncio.get_running_loop()
        cancelled = threading.Event()

        def going() -> None:
            if cancelled.is_set():
                raise CancelledError

        def begin() -> Engine:
            if threads:
                torch.set_num_threads(threads)
            return load(going)

        try:
            engine = await loop.run_in_executor(thread, begin)
            # torch keeps this setting for each thread, and short steps run in this one.
            torch.set_num_threads(await loop.run_in_executor(thread, torch.get_num_threads))
        except BaseException:
            cancelled.set()
            # Whoever loads next needs the memory.
            await asyncio.to_thread(thread.shutdown, wait=True, cancel_futures=True)
            raise
        return cls(engine, thread, kv_cache_mib)

    def stop(self) -> None:
        """Finish the work that has been started and take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def open(self, padding: tuple[int, ...], max_length: int, span: Span | None = None) -> Slot:
        """Return room for a batch of sequences, one for each entry of `padding`.

        Args:
            padding: see `Cache`.
            max_length: positions that each sequence may have.
            span: the blocks that it runs through; None: all that are loaded.

        Raises:
            ServerFullError: the budget does not hold it now.
            SessionError: a block of the span is not loaded.
        """
        blocks = len(self.engine.span if span is None else span)
        wanted = len(padding) * max_length * blocks * self.engine.block_kv_bytes
        free = self.kv_total_bytes - self.kv_used_bytes
        if wanted > free:
            raise ServerFullError(
                f"{len(padding)} x {max_length} tokens need {wanted / _MIB:.0f} MiB for keys and "
                f"values; {free / _MIB:.0f} of {self.kv_total_bytes / _MIB:.0f} MiB are free",
                hint="try again later, ask for fewer tokens, or raise serving.kv_cache_mib",
            )
        cache = self.engine.open(padding, span)
        self.kv_used_bytes += wanted
        return Slot(cache, padding, max_length, wanted)

    def close(self, slot: Slot) -> None:
        """Free a session's room, after whatever is being computed for it."""
        self._handed_over.append(self._thread.submit(slot.cache.close))
        self.kv_used_bytes -= slot.reserved_bytes

    async def forward(self, slot: Slot, hidden: Tensor) -> Timed[Tensor]:
        """Return hidden states `[batch, tokens, hidden]` behind this span's blocks, on the CPU."""
        engine = self.engine
        # Copied where it is computed: the copy is what waits for an accelerator.
        return await self._compute(
            slot, hidden.shape[1], lambda: engine.forward(slot.cache, hidden).cpu()
        )

    async def forward_ids(self, slot: Slot, ids: Tensor) -> Timed[Tensor]:
        """Return hidden states for token ids `[batch, tokens]`, embedded and run through."""
        engine = self.engine
        return await self._compute(
            slot,
            ids.shape[1],
            lambda: engine.forward(slot.cache, engine.embed(slot.cache, ids)).cpu(),
        )

    async def next_ids(
        self, slot: Slot, hidden: Tensor, sampling: Sampling
    ) -> Timed[tuple[int, ...]]:
        """Return each sequence's next token; only the last stage can."""
        return await self._compute(
            slot,
            hidden.shape[1],
            lambda: self._sample(slot, self.engine.logits(slot.cache, hidden), sampling),
            head=True,
        )

    async def next_ids_alone(
        self, slot: Slot, ids: Tensor, sampling: Sampling
    ) -> Timed[tuple[int, ...]]:
        """Return each sequence's next token from token ids, where one stage holds all blocks."""
        engine = self.engine
        return await self._compute(
            slot,
            ids.shape[1],
            lambda: self._sample(
                slot, engine.logits(slot.cache, engine.embed(slot.cache, ids)), sampling
            ),
            head=True,
        )

    @staticmethod
    def _sample(slot: Slot, logits: Tensor, sampling: Sampling) -> tuple[int, ...]:
        positions = [slot.length - padding for padding in slot.padding]
        return tuple(sample(logits, sampling, positions))

    async def _compute(
        self, slot: Slot, tokens: int, work: Callable[[], Result], *, head: bool = False
    ) -> Timed[Result]:
        """Return what `work` computes for so many new tokens of each of a slot's sequences."""

        def timed() -> Timed[Result]:
            started = time.monotonic_ns()
            value = work()
            return Timed(value, started, time.monotonic_ns())

        # Whatever else is ready goes first, so that no session keeps the loop to itself.
        await asyncio.sleep(0)
        # A step that nobody waits for any more is still computed to its end.
        self._handed_over = [step for step in self._handed_over if not step.done()]
        if tokens == 1 and self._decode_ns < _SHORT_STEP_NS and not self._handed_over:
            done = timed()
        else:
            step = self._thread.submit(timed)
            self._handed_over.append(step)
            done = await asyncio.wrap_future(step)
        if tokens == 1:
            self._decode_ns = done.finished - done.started
            if self.pace is not None:
                blocks, batch = len(slot.cache.span), len(slot.padding)
                self.pace.saw(blocks, batch, self._decode_ns, done.finished, head=head)
        return done
