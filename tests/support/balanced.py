"""Swarms of servers that choose their blocks, each a process of its own; stage 0 is in this one."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from runtime.client.generation import Client
from runtime.client.request import GenerationRequest, TokensEvent
from runtime.errors import StagefleetError
from runtime.spec.plan import HostPlan
from runtime.swarm.records import ServerInfo
from tests.support.swarm import (
    Processes,
    change_config,
    peer_id_of,
    prepare_spans,
    serving_place,
)

_PULSE_SECONDS: Final = 0.02
"""A slowed process runs for a share of each such time: every decode step takes as much longer."""
_PULSES: Final = """
import os, signal, sys, time
pid, share, period = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
parent, owed = os.getppid(), 0.0
try:
    while os.getppid() == parent:
        began = time.monotonic()
        os.kill(pid, signal.SIGCONT)
        time.sleep(period * share)  # it runs
        os.kill(pid, signal.SIGSTOP)
        ended = time.monotonic()
        # Sleeping takes longer than asked for; the share stays what it is.
        owed += (ended - began) * (1 / share - 1)
        time.sleep(max(0, owed))  # it stands still
        owed -= time.monotonic() - ended
    os.kill(pid, signal.SIGCONT)
except ProcessLookupError:
    pass
"""

Held = list[tuple[int, int]]


def balanced(
    root: Path,
    model: Path,
    servers: int,
    num_blocks: int,
    check_seconds: float | None = None,
    **serving: object,
) -> HostPlan:
    """Prepare a stage 0 and so many servers that choose blocks, all about to start at once.

    Args:
        root: where the fleet lives.
        model: the model directory.
        servers: how many.
        num_blocks: of each.
        check_seconds: how often they look at the balance; None: as often as by default.
        serving: settings of every server, stage 0 among them.
    """
    plan = prepare_spans(root, model, servers, **serving)
    own: dict[str, object] = {"use_load_balancing": True, "splits": (), "num_blocks": num_blocks}
    if check_seconds is not None:
        own["mean_balance_check_period"] = check_seconds
    for place in range(1, servers + 1):
        change_config(plan, place, **own)
    return plan


async def online(client: Client) -> list[ServerInfo]:
    """Return the servers with blocks that can take sessions."""
    servers = await client.servers()
    return [server for server in servers if server.state == "online" and server.end > server.start]


async def held(client: Client) -> Held:
    """Return the spans of all servers that are online."""
    return sorted((server.start, server.end) for server in await online(client))


@contextlib.asynccontextmanager
async def asking(
    client: Client, request: GenerationRequest, sessions: int = 1
) -> AsyncIterator[Counter[str]]:
    """Keep so many sessions going; yields how many tokens came, and how many requests failed."""
    count: Counter[str] = Counter()

    async def ask() -> None:
        while True:
            try:
                async for event in client.generate(request):
                    count["tokens"] += isinstance(event, TokensEvent)
            except StagefleetError as error:
                count[f"failed: {type(error).__name__}"] += 1
                await asyncio.sleep(1)  # as people do who try again

    tasks = [asyncio.create_task(ask()) for _ in range(sessions)]
    try:
        yield count
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(holds: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Wait until something holds; return how many seconds it took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            if await holds():
                return time.monotonic() - started
            await asyncio.sleep(0.1)  # between two looks; the timeout ends them


class BalancedSwarm:
    """The servers of a plan as processes, and the client side of its stage 0."""

    def __init__(self, plan: HostPlan, client: Client) -> None:
        self.processes = Processes(plan)
        self.client = client
        self._peers = {
            place: peer_id_of(Path(json.loads(stage.config_text)["identity"]))
            for place, stage in enumerate(plan.stages)
        }
        self._slowed: dict[int, Slowdown] = {}

    async def start(self, *places: int, seconds: float = 120) -> None:
        """Start servers at once, and wait until all are ready."""
        for place in places:
            self.processes.start(place)

        async def are_ready() -> bool:
            return all(self.processes.is_ready(place) for place in places)

        await _until(are_ready, seconds)

    async def spans(self) -> Mapping[int, tuple[int, int]]:
        """Return what each server that is online holds, by its place in the plan."""
        found = {server.peer_id: (server.start, server.end) for server in await online(self.client)}
        return {place: found[peer_id] for place, peer_id in self._peers.items() if peer_id in found}

    async def until_online(self, place: int, seconds: float = 60) -> float:
        """Wait until a server serves blocks; return the seconds."""

        async def is_online() -> bool:
            return place in await self.spans()

        return await _until(is_online, seconds)

    async def until_moved(self, before: Mapping[int, tuple[int, int]], seconds: float) -> float:
        """Wait until a server serves other blocks than it did before; return the seconds."""

        async def has_moved() -> bool:
            return any(
                before.get(place, span) != span for place, span in (await self.spans()).items()
            )

        return await _until(has_moved, seconds)

    async def until_covered(self, total_blocks: int, *, without: int, seconds: float = 60) -> float:
        """Wait until every block is served, not counting one place; return the seconds."""

        async def is_covered() -> bool:
            spans = [span for place, span in (await self.spans()).items() if place != without]
            return all(any(a <= block < b for a, b in spans) for block in range(total_blocks))

        return await _until(is_covered, seconds)

    def kill(self, place: int) -> None:
        """End a server without a word, with everything that it started."""
        self.processes.kill(place)

    def slow(self, place: int, share: float) -> None:
        """Let a server run for so much of the time only, from now on."""
        if place in self._slowed:
            self._slowed.pop(place).end()
        if share < 1:
            self._slowed[place] = Slowdown(self.processes.pid(place), share)

    def stop(self) -> None:
        """End every process."""
        for slowdown in self._slowed.values():
            slowdown.end()
        self.processes.stop()


@contextlib.asynccontextmanager
async def balanced_swarm(plan: HostPlan) -> AsyncIterator[BalancedSwarm]:
    """Run stage 0 in this process; the servers are started one by one."""
    async with serving_place(plan, 0) as client:
        assert client is not None
        swarm = BalancedSwarm(plan, client)
        try:
            yield swarm
        finally:
            await asyncio.to_thread(swarm.stop)


class Slowdown:
    """Lets a process run for a share of the time: a slower machine, for all it can tell."""

    def __init__(self, pid: int, share: float) -> None:
        self._pid = pid
        # A process of its own: a thread here would wait for its turn, and the share be another one.
        self._pulses = subprocess.Popen(
            [sys.executable, "-S", "-c", _PULSES, *map(str, (pid, share, _PULSE_SECONDS))]
        )

    def end(self) -> None:
        """Let it run again."""
        self._pulses.kill()
        self._pulses.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)
