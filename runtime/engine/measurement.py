"""What a worker's blocks take, measured by running them: at the start, and when they are idle."""

import time
from collections.abc import Awaitable, Callable

import torch
from torch import Tensor

from runtime.engine.options import Sampling
from runtime.engine.pace import Pace, Rates
from runtime.engine.worker import Slot, Worker

# Small models take a millisecond for a step, large ones a second. Half a second in all, or the
# fewest steps that tell something where these take longer.
_LEAST_STEPS, _MOST_STEPS = 2, 100
_STEP_NS, _BATCH_NS, _HEAD_NS, _PREFILL_NS = 250_000_000, 100_000_000, 50_000_000, 100_000_000
_FEW_TOKENS, _MANY_TOKENS = 8, 256
_PROBE_STEPS = 9
_PROBE_NS = 100_000_000


_Step = Callable[[Slot, int], Awaitable[int]]
"""Computes so many new tokens of each of a slot's sequences; returns nanoseconds."""


async def step_seconds(worker: Worker) -> float:
    """Return what a decode step of one sequence takes through the worker's blocks.

    The lower quartile of the steps counts: whatever else runs on the host makes steps longer,
    never shorter, and servers that start together disturb each other.
    """
    return await _decode_seconds(worker, 1, _forward(worker), _STEP_NS)


async def measured(worker: Worker, max_batch: int, max_length: int) -> Rates:
    """Return what a worker's blocks take, and let it know.

    Args:
        worker: with a block at least.
        max_batch: sequences that a session may have.
        max_length: tokens that a sequence may have.
    """
    engine = worker.engine
    one = await step_seconds(worker)
    batch = max(1, min(max_batch, _room(worker) // max_length))
    many = one
    if batch > 1:
        many = await _decode_seconds(worker, batch, _forward(worker), _BATCH_NS)
    head = 0.0
    if engine.span.end == engine.total_blocks:
        whole = await _decode_seconds(worker, 1, _next_ids(worker), _HEAD_NS)
        head = max(0.0, whole - one)
    rates = Rates(one, head, batch, many, await _prefill(worker))
    worker.pace = Pace(rates, len(engine.span), time.monotonic_ns())
    return rates


async def probe(worker: Worker, wanted: Callable[[], bool]) -> None:
    """Let a worker that has nothing to do learn how fast it is now.

    Args:
        worker: whose pace is known.
        wanted: whether somebody needs the worker now; then it ends after the step that runs.
    """
    slot = Slot(worker.engine.open((0,)), (0,), _PROBE_STEPS, 0)
    step, spent = _forward(worker), 0
    try:
        while slot.length < _most_positions(worker, _PROBE_STEPS) and not wanted():
            spent += await step(slot, 1)
            if slot.length > _LEAST_STEPS and spent >= _PROBE_NS:
                break
    finally:
        slot.cache.close()
    if worker.pace is not None:
        worker.pace.settle(time.monotonic_ns())


async def _decode_seconds(worker: Worker, batch: int, step: _Step, budget_ns: int) -> float:
    """Return the lower quartile of a batch's decode steps, after one to warm up."""
    positions = _most_positions(worker, min(_MOST_STEPS + 1, _room(worker) // batch))
    slot = worker.open((0,) * batch, positions)
    durations: list[int] = []
    try:
        await step(slot, 1)
        while slot.length < positions and (
            len(durations) < _LEAST_STEPS or sum(durations) < budget_ns
        ):
            durations.append(await step(slot, 1))
    finally:
        worker.close(slot)
    return sorted(durations)[len(durations) // 4] / 1e9


async def _prefill(worker: Worker) -> float:
    """Return tokens per second, of as many at once as the time allows."""
    step = _forward(worker)
    tokens = _most_positions(worker, min(_FEW_TOKENS, _room(worker)))

    async def run(count: int) -> int:
        slot = worker.open((0,), count)
        try:
            return max(1, await step(slot, count))
        finally:
            worker.close(slot)

    await run(tokens)
    took = await run(tokens)
    most = _most_positions(worker, min(_MANY_TOKENS, _room(worker)))
    more = min(most, tokens * _PREFILL_NS // took)
    if more > tokens:
        tokens, took = more, await run(more)
    return tokens * 1e9 / took


def _forward(worker: Worker) -> _Step:
    async def step(slot: Slot, tokens: int) -> int:
        done = await worker.forward(slot, _zeros(worker, slot, tokens))
        return done.finished - done.started

    return step


def _next_ids(worker: Worker) -> _Step:
    async def step(slot: Slot, tokens: int) -> int:
        done = await worker.next_ids(slot, _zeros(worker, slot, tokens), Sampling())
        return done.finished - done.started

    return step


def _zeros(worker: Worker, slot: Slot, tokens: int) -> Tensor:
    engine = worker.engine
    return torch.zeros(len(slot.padding), tokens, engine.hidden_size, dtype=engine.dtype)


def _room(worker: Worker) -> int:
    """Return how many positions of one sequence there is memory for."""
    position_bytes = len(worker.engine.span) * worker.engine.block_kv_bytes
    return (worker.kv_total_bytes - worker.kv_used_bytes) // max(1, position_bytes)


def _most_positions(worker: Worker, wanted: int) -> int:
    """Return how many positions a measurement takes: one to warm up, and one at least."""
    return max(2, min(wanted, worker.engine.max_length))
