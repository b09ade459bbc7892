"""A server that becomes slower while it serves says so, loses its traffic, and recovers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from torch import Tensor

from runtime.client.generation import Client
from runtime.client.request import GenerationRequest, RouteEvent
from runtime.engine import pace
from runtime.engine.engine import Cache
from runtime.engine.reference import ReferenceEngine, load_engine
from runtime.stage import blocks
from tests.support.models import import_tiny
from tests.support.swarm import (
    change_config,
    collect,
    make_fleet,
    peer_id_of,
    prepare,
    serving_place,
    wait_for_route,
)

REQUEST = GenerationRequest(prompts=("Hello, replica",), max_new_tokens=8, ignore_eos=True)
SLOW_SECONDS = 0.2
"""What a step takes longer: many times as long as it takes, also on a machine that is busy."""

pytestmark = pytest.mark.timeout(300)


class Brake:
    """Makes the engines slow that are loaded while it is fitted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def load(self, *args: object, **options: object) -> ReferenceEngine:
        """Return an engine whose every step takes longer while the brake is on."""
        engine = load_engine(*args, **options)  # type: ignore[arg-type]  # handed on as they are
        forward = engine.forward

        def braked(cache: Cache, hidden: Tensor) -> Tensor:
            time.sleep(self.seconds)  # the fault itself
            return forward(cache, hidden)

        engine.forward = braked  # type: ignore[method-assign]  # of this engine alone
        return engine


class Replicas:
    """Stage 0 and two servers with the same blocks, of which the first has a brake."""

    def __init__(self, client: Client, brake: Brake, names: dict[int, str]) -> None:
        self.client, self.brake, self.names = client, brake, names

    async def throughput(self, place: int) -> float:
        """Return what a server says of itself."""
        servers = await self.client.servers()
        return next(s.throughput for s in servers if s.peer_id == self.names[place])

    async def until(self, holds: Callable[[float], bool], load: int) -> None:
        """Wait until what the first server says holds, with so many sessions at a time."""
        async with asyncio.timeout(120):
            while not holds(await self.throughput(1)):
                await asyncio.gather(*(collect(self.client, REQUEST) for _ in range(load)))
                if not load:
                    await asyncio.sleep(0.5)  # between two looks; the timeout ends them

    async def chosen(self) -> str:
        """Return the server that the next session gets."""
        events, _ = await collect(self.client, REQUEST)
        assert isinstance(events[0], RouteEvent)
        return events[0].route[1].peer_id


@pytest.fixture
async def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
    monkeypatch.setattr(pace, "STALE_SECONDS", 2)
    model = import_tiny("llama", tmp_path / "imported")[1]
    plan = prepare(make_fleet(tmp_path, model, (2, 4), announce_period_seconds=4))
    for place, stage in enumerate((0, 1, 1)):
        change_config(plan, place, stage=stage, splits=[2])
    names = {place: peer_id_of(Path(plan.stages[place].identity_path)) for place in (1, 2)}
    brake = Brake()
    async with AsyncExitStack() as stack:
        with monkeypatch.context() as fitted:
            fitted.setattr(blocks, "load_engine", brake.load)
            await stack.enter_async_context(serving_place(plan, 1))
        await stack.enter_async_context(serving_place(plan, 2))
        client = await stack.enter_async_context(serving_place(plan, 0))
        assert client is not None
        await wait_for_route(client)
        yield Replicas(client, brake, names)


async def test_a_server_that_becomes_slow_loses_its_traffic_until_it_recovers(
    replicas: Replicas,
) -> None:
    before = await replicas.throughput(1)
    replicas.brake.seconds = SLOW_SECONDS
    await replicas.until(lambda now: now < before / 3, load=4)
    slow = await replicas.throughput(1)
    assert [await replicas.chosen() for _ in range(3)] == [replicas.names[2]] * 3
    # Nobody gives it work now: it finds out by itself.
    replicas.brake.seconds = 0
    await replicas.until(lambda now: now > 2 * slow, load=0)
