"""The worker: which steps leave the event loop, and the room it gives to sessions."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest
import torch
from torch import Tensor

from runtime.engine import worker as module
from runtime.engine.worker import Worker
from runtime.errors import ServerFullError, SessionError
from runtime.model.going import Going
from runtime.spec.base import Span
from tests.support.recorder import HIDDEN, Recorder

BLOCK = Span(start=2, end=3)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(module, "time", recorder)
    return recorder


@pytest.fixture
async def worker(engine: Recorder) -> AsyncIterator[Worker]:
    made = await Worker.load(lambda _: engine, kv_cache_mib=1)
    yield made
    made.stop()


def state(tokens: int) -> Tensor:
    return torch.zeros(1, tokens, HIDDEN)


def on_loop(engine: Recorder) -> list[bool]:
    """Return for each step whether the event loop's thread ran it."""
    return [thread is threading.current_thread() for thread in engine.threads]


async def test_decode_steps_stay_on_the_loop_once_they_are_known_to_be_short(
    worker: Worker, engine: Recorder
) -> None:
    slot = worker.open((0,), 16)
    for tokens in (5, 1, 1, 1):
        await worker.forward(slot, state(tokens))
    assert on_loop(engine) == [False, False, True, True]


async def test_prefill_leaves_the_loop_even_after_short_steps(
    worker: Worker, engine: Recorder
) -> None:
    slot = worker.open((0,), 16)
    for tokens in (1, 1, 5):
        await worker.forward(slot, state(tokens))
    assert on_loop(engine) == [False, True, False]


async def test_long_steps_leave_the_loop_until_they_are_short_again(
    worker: Worker, engine: Recorder
) -> None:
    slot = worker.open((0,), 16)
    for milliseconds in (1, 80, 80, 1, 1):
        engine.step_ms = milliseconds
        await worker.forward(slot, state(1))
    assert on_loop(engine) == [False, True, False, False, True]


@pytest.mark.parametrize("gives_up", [False, True])
async def test_no_step_runs_beside_one_in_the_thread(
    worker: Worker, engine: Recorder, gives_up: bool
) -> None:
    slots = [worker.open((0,), 16) for _ in range(3)]
    await worker.forward(slots[0], state(1))
    engine.gate.clear()
    running = asyncio.create_task(worker.forward(slots[1], state(5)))
    waiting = asyncio.create_task(worker.forward(slots[2], state(5)))
    await asyncio.sleep(0.01)
    if gives_up:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
    last = asyncio.create_task(worker.forward(slots[0], state(1)))
    await asyncio.sleep(0.01)
    # On the loop it would have waited for the gate for ever.
    assert not last.done()
    engine.gate.set()
    await asyncio.gather(running, waiting, last, return_exceptions=True)
    assert on_loop(engine) == [False] * (3 if gives_up else 4)


async def test_no_step_runs_beside_the_end_of_a_session(worker: Worker, engine: Recorder) -> None:
    slots = [worker.open((0,), 16) for _ in range(2)]
    await worker.forward(slots[0], state(1))
    engine.gate.clear()
    worker.close(slots[1])
    step = asyncio.create_task(worker.forward(slots[0], state(1)))
    await asyncio.sleep(0.01)
    assert not step.done()
    engine.gate.set()
    await step
    assert on_loop(engine) == [False, False]


async def test_other_work_is_not_held_up_by_a_session_of_short_steps(worker: Worker) -> None:
    slot = worker.open((0,), 16)
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(heart())
    for _ in range(10):
        await worker.forward(slot, state(1))
    beating.cancel()
    assert beats >= 10


async def test_the_loop_computes_with_as_many_threads_as_were_asked_for(
    engine: Recorder,
) -> None:
    before = torch.get_num_threads()

    worker = await Worker.load(lambda _: engine, kv_cache_mib=1, threads=before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    worker.stop()


async def test_loading_that_nobody_waits_for_ends_and_is_waited_for(engine: Recorder) -> None:
    began, ended = threading.Event(), threading.Event()

    def load(going: Going) -> Recorder:
        began.set()
        try:
            for _ in range(1000):
                going()
                time.sleep(0.01)  # as reading a block takes
        finally:
            time.sleep(0.1)  # as freeing memory takes
            ended.set()
        return engine

    loading = asyncio.create_task(Worker.load(load, kv_cache_mib=1))
    await asyncio.to_thread(began.wait, 10)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert ended.is_set()


async def test_sessions_share_the_budget_and_give_back_what_they_took(worker: Worker) -> None:
    slots = [worker.open((0,), 128), worker.open((0, 3), 64)]
    assert worker.kv_used_bytes == worker.kv_total_bytes == 1 << 20
    with pytest.raises(ServerFullError, match=r"need 0 MiB for keys and values; 0 of 1 MiB"):
        worker.open((0,), 1)
    for slot in slots:
        worker.close(slot)
    assert worker.kv_used_bytes == 0
    assert worker.open((0,), 1).reserved_bytes == 4 << 10


async def test_a_session_takes_room_for_the_blocks_that_it_runs_through(worker: Worker) -> None:
    slots = [worker.open((0,), 256, Span(start=3, end=6)), worker.open((0,), 256, BLOCK)]
    assert [slot.reserved_bytes for slot in slots] == [768 << 10, 256 << 10]
    assert slots[1].cache.span == BLOCK
    assert worker.open((0,), 9999, Span(start=3, end=3)).reserved_bytes == 0
    worker.close(slots[0])
    with pytest.raises(SessionError):
        worker.open((0,), 1, Span(start=1, end=3))
    assert worker.kv_used_bytes == 256 << 10
