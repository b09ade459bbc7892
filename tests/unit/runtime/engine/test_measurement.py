"""Measuring a worker: what is measured, within which bounds, and what serving changes of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import torch

from runtime.engine import measurement, worker
from runtime.engine.engine import Cache
from runtime.engine.measurement import measured, probe, step_seconds
from runtime.engine.options import Sampling
from runtime.engine.pace import STALE_SECONDS
from runtime.engine.worker import Worker
from tests.support.recorder import HIDDEN, MS, Recorder

MIB = 1 << 20


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    recorder.cost = cost
    for module in (measurement, worker):
        monkeypatch.setattr(module, "time", recorder)
    return recorder


def cost(cache: Cache, tokens: int) -> float:
    """A further sequence adds a fifth of the first one, a further token a tenth."""
    return (1 + 0.2 * (cache.batch - 1)) * (1 + 0.1 * (tokens - 1)) * len(cache.span) / 4


@pytest.fixture
async def made(engine: Recorder) -> AsyncIterator[Worker]:
    found = await Worker.load(lambda _: engine, kv_cache_mib=1)
    yield found
    found.stop()


async def test_everything_is_measured_and_nothing_is_kept(engine: Recorder, made: Worker) -> None:
    engine.step_ms, engine.head_ms = 2, 3
    rates = await measured(made, max_batch=8, max_length=64)
    # Room for 256 positions: four sequences of 64 tokens.
    assert rates.batch == 4
    assert rates.step_seconds == pytest.approx(0.002)
    assert rates.head_seconds == pytest.approx(0.003)
    assert rates.batch_seconds == pytest.approx(0.0032)
    assert rates.prefill == pytest.approx(64 / (0.002 * 7.3))
    assert (made.kv_used_bytes, len(engine.threads) > 0) == (0, True)


@pytest.mark.parametrize("step_ms", [0.01, 1, 30, 400, 5000])
async def test_it_takes_half_a_second_or_the_fewest_steps(
    engine: Recorder, made: Worker, step_ms: float
) -> None:
    engine.max_length = 100_000
    made.kv_total_bytes = 1 << 40
    engine.step_ms = step_ms
    await measured(made, max_batch=2, max_length=64)
    assert engine.now / MS < 600 + 16 * step_ms


async def test_a_budget_of_one_position_is_enough(engine: Recorder, made: Worker) -> None:
    engine.block_kv_bytes = MIB // 8
    assert (await measured(made, 8, 64)).batch == 1


async def test_a_step_is_measured_alone_where_nothing_else_is_asked(
    engine: Recorder, made: Worker
) -> None:
    engine.step_ms = 2
    assert await step_seconds(made) == pytest.approx(0.002)


async def serve(made: Worker, steps: int) -> None:
    slot = made.open((0, 0), steps)
    hidden = torch.zeros(2, 1, HIDDEN)
    for _ in range(steps):
        await made.next_ids(slot, hidden, Sampling())
    made.close(slot)


async def test_a_server_that_becomes_slower_says_so_and_recovers(
    engine: Recorder, made: Worker
) -> None:
    engine.head_ms = 0.5
    first = (await measured(made, 8, 64)).throughput
    assert made.pace is not None
    await serve(made, 64)
    assert made.pace.throughput == pytest.approx(first, rel=0.2)
    engine.step_ms, engine.head_ms = 5, 2.5
    for _ in range(20):
        await serve(made, 64)
    assert made.pace.throughput == pytest.approx(first / 5, rel=0.2)
    engine.step_ms, engine.head_ms = 1, 0.5
    for _ in range(20):
        await serve(made, 64)
    assert made.pace.throughput == pytest.approx(first, rel=0.2)


async def test_an_idle_server_notices_that_it_has_become_slower(
    engine: Recorder, made: Worker
) -> None:
    first = (await measured(made, 8, 64)).throughput
    assert made.pace is not None
    engine.step_ms = 5
    for _ in range(5):
        engine.now += int(STALE_SECONDS * 1000 * MS)
        assert made.pace.is_stale(engine.now)
        before = engine.now
        await probe(made, lambda: False)
        assert engine.now - before < 200 * MS
        assert not made.pace.is_stale(engine.now)
    assert made.pace.throughput == pytest.approx(first / 5, rel=0.1)


async def test_whoever_comes_waits_for_one_step_of_a_probe_at_most(
    engine: Recorder, made: Worker
) -> None:
    await measured(made, 8, 64)
    before = len(engine.threads)
    # Not even the budget is touched: a session that needs all of it is taken.
    everything = made.kv_total_bytes // (4 * engine.block_kv_bytes)
    opened = asyncio.Event()
    engine.gate.clear()
    probing = asyncio.create_task(probe(made, opened.is_set))
    await asyncio.sleep(0)
    slot = made.open((0,), everything)
    opened.set()
    engine.gate.set()
    await probing
    assert len(engine.threads) - before <= 1
    made.close(slot)
