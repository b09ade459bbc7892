"""Sessions between servers: their way back past a closed port, and the end of idle ones."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.client.request import Event, GenerationRequest, RouteEvent
from runtime.errors import SessionError
from runtime.spec.plan import HostPlan
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import (
    collect,
    free_ports,
    is_free,
    make_fleet,
    prepare,
    serving_in_process,
    statuses,
)

PROMPT, NEW_TOKENS = "Hello, pipeline", 12
REQUEST = GenerationRequest(prompts=(PROMPT,), max_new_tokens=NEW_TOKENS, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


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
    plan = prepare(make_fleet(tmp_path, model, (1, 3), session_idle_seconds=1.5))
    async with serving_in_process(plan) as client:
        generating = client.generate(REQUEST)
        for _ in range(3):
            await anext(generating)
        assert all(status.kv_used_bytes > 0 for status in await statuses(plan))
        assert await is_free(plan, slice(1, 3))
        with pytest.raises(SessionError, match=r"idle for 1\.5 s"):
            await rest(generating)
        assert await is_free(plan)
        _, end = await collect(client, REQUEST)
        assert [list(ids) for ids in end.token_ids] == greedy_ids(model, (PROMPT,), NEW_TOKENS)
