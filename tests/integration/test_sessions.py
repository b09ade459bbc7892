"""Sessions between servers: their way back past a closed port, and the end of idle ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.checks.config import checked, read_config
from runtime.client.request import Event, GenerationRequest, RouteEvent
from runtime.errors import SessionError
from runtime.spec.plan import HostPlan
from runtime.stage.health import status_of
from runtime.wire.messages import Status
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import collect, free_ports, make_fleet, prepare, serving_in_process

PROMPT, NEW_TOKENS = "Hello, pipeline", 12
REQUEST = GenerationRequest(prompts=(PROMPT,), max_new_tokens=NEW_TOKENS, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


async def statuses(plan: HostPlan) -> list[Status]:
    """Return how each server is, as its health check sees it."""
    configs = [read_config(Path(stage.config_path)) for stage in plan.stages]
    return [await status_of(checked(config), 10) for config in configs]


def hide_stage_0(plan: HostPlan) -> None:
    """Let neither the plan nor stage 0 itself name a port on which it can be dialled."""
    (closed,) = free_ports(1)
    for stage in plan.stages:
        path = Path(stage.config_path)
        config = json.loads(path.read_text())
        for peer in config["peers"]:
            if peer["stage"] == 0:
                peer["rpc_port"] = closed
        if config["stage"] == 0:
            config |= {"addresses": [], "bind": "0.0.0.0"}
            config |= {"public_ip": "127.0.0.1", "public_rpc_port": closed}
        path.write_text(json.dumps(config))


async def rest(generating: AsyncIterator[Event]) -> list[Event]:
    """Return the events that are still to come."""
    return [event async for event in generating]


async def is_free(plan: HostPlan, tries: int = 200) -> bool:
    """Return whether no server holds a session any more, after some time at the most."""
    for _ in range(tries):
        if not any(status.sessions or status.kv_used_bytes for status in await statuses(plan)):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_results_return_along_the_chain_where_stage_0_cannot_be_dialled(
    model: Path, tmp_path: Path
) -> None:
    plan = prepare(make_fleet(tmp_path, model, (1, 3), connect_timeout_seconds=2))
    hide_stage_0(plan)
    async with serving_in_process(plan) as client:
        events, end = await collect(client, REQUEST)
        opened = events[0]
        assert isinstance(opened, RouteEvent)
        assert not opened.direct
        assert [list(ids) for ids in end.token_ids] == greedy_ids(model, (PROMPT,), NEW_TOKENS)


async def test_an_idle_session_is_closed_everywhere_and_its_room_is_free_again(
    model: Path, tmp_path: Path
) -> None:
    plan = prepare(make_fleet(tmp_path, model, (1, 3), session_idle_seconds=0.3))
    async with serving_in_process(plan) as client:
        generating = client.generate(REQUEST)
        for _ in range(3):
            await anext(generating)
        assert all(status.kv_used_bytes > 0 for status in await statuses(plan))
        await asyncio.sleep(1)
        with pytest.raises(SessionError, match=r"idle for 0\.3 s"):
            await rest(generating)
        assert await is_free(plan)
        _, end = await collect(client, REQUEST)
        assert [list(ids) for ids in end.token_ids] == greedy_ids(model, (PROMPT,), NEW_TOKENS)
