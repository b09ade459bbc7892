"""Whole swarms on loopback: real servers, real TLS, a real DHT, in one process or in several."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from runtime.client.generation import Client
from runtime.client.request import EndEvent, Event, GenerationRequest
from runtime.model.manifest import read_manifest
from runtime.spec.base import Span
from runtime.spec.fleet import Fleet
from runtime.spec.plan import HostPlan, plans
from runtime.swarm.authority import Authority
from runtime.swarm.identity import CERTIFICATE, certificate_peer_id, read_certificate
from runtime.wire.messages import Status

LOOPBACK = "127.0.0.1"
START_SECONDS = 120


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def make_fleet(root: Path, model: Path, splits: tuple[int, ...], **serving: object) -> Fleet:
    """Return a fleet on this machine, on free ports, that lives below `root`."""
    ports = free_ports(2 * len(splits) + 3)
    stages = [
        {"stage": stage, "dht_port": ports.pop(), "rpc_port": ports.pop()}
        for stage in range(len(splits) + 1)
    ]
    return Fleet.model_validate_json(
        json.dumps(
            {
                "name": "test",
                "authority": str(root / "authority"),
                "install": {"scope": "user", "root": str(root)},
                "model": {
                    "path": str(model),
                    "total_blocks": read_manifest(model).total_blocks,
                    "splits": splits,
                },
                "serving": {"announce_period_seconds": 1, "threads": 1, **serving},
                "hosts": {
                    "here": {
                        "addresses": [LOOPBACK],
                        "stages": stages,
                        "ports": {"gateway": ports.pop()},
                    }
                },
            }
        )
    )


def issue(fleet: Fleet, directory: Path, server: str) -> None:
    """Make an identity in `directory` and certify it by the fleet's authority."""
    authority = Authority(Path(fleet.authority or ""), fleet.name)
    authority.create()
    authority.issue(server, directory)


def peer_id_of(directory: Path) -> str:
    """Return the peer id that an identity stands for."""
    return certificate_peer_id(read_certificate(directory / CERTIFICATE))


def prepare(fleet: Fleet) -> HostPlan:
    """Make every identity and write every configuration; return the plan of the one host."""
    authority = Authority(Path(fleet.authority or ""), fleet.name)
    for stage in plans(fleet, {})["here"].stages:
        issue(fleet, Path(stage.identity_path), stage.name)
    plan = plans(fleet, authority.peers())["here"]
    Path(plan.paths.config).mkdir(parents=True, exist_ok=True)
    for stage in plan.stages:
        Path(stage.config_path).write_text(stage.config_text)
    return plan


@contextlib.asynccontextmanager
async def swarm_in_process(
    root: Path, model: Path, splits: tuple[int, ...], **serving: object
) -> AsyncIterator[Client]:
    """Run every stage in this process and yield stage 0's client."""
    async with serving_in_process(prepare(make_fleet(root, model, splits, **serving))) as client:
        yield client


@contextlib.asynccontextmanager
async def serving_in_process(plan: HostPlan) -> AsyncIterator[Client]:
    """Run every stage of a plan, as its configuration files are now, in this process."""
    async with serving_spans(plan, {}) as (client,):
        yield client


@contextlib.asynccontextmanager
async def serving_spans(plan: HostPlan, spans: Mapping[int, Span]) -> AsyncIterator[list[Client]]:
    """Run every stage of a plan in this process and yield the client sides.

    Args:
        plan: whose configuration files are read as they are now.
        spans: what servers serve instead of what their configuration says, by place in the plan.
    """
    from runtime.checks.config import checked, read_config
    from runtime.stage.process import Server
    from runtime.stage.source import FixedSpan

    configs = [checked(read_config(Path(stage.config_path))) for stage in plan.stages]
    async with contextlib.AsyncExitStack() as stack:
        serving_now = [
            Server(config, FixedSpan(spans[place]) if place in spans else None).serving()
            for place, config in enumerate(configs)
        ]
        yielded = await asyncio.gather(*(each.__aenter__() for each in serving_now))
        for each in serving_now:
            stack.push_async_exit(each)
        clients = [client for client in yielded if client is not None]
        for client in clients:
            await wait_for_route(client)
        yield clients


@contextlib.asynccontextmanager
async def serving_place(plan: HostPlan, place: int) -> AsyncIterator[Client | None]:
    """Run one server of a plan in this process; yields its client side, if it has one."""
    from runtime.checks.config import checked, read_config
    from runtime.stage.process import Server

    config = checked(read_config(Path(plan.stages[place].config_path)))
    async with Server(config).serving() as client:
        yield client


def prepare_spans(root: Path, model: Path, servers: int, **serving: object) -> HostPlan:
    """Prepare a stage 0 that only embeds and so many servers, whose spans are said later."""
    plan = prepare(make_fleet(root, model, tuple(range(1, servers + 1)), **serving))
    change_config(plan, 0, use_load_balancing=True, splits=())
    return plan


def change_config(plan: HostPlan, place: int, **fields: object) -> None:
    """Change the configuration file of one of a plan's servers."""
    path = Path(plan.stages[place].config_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


async def statuses(plan: HostPlan) -> list[Status]:
    """Return how each server is, as its health check sees it."""
    from runtime.checks.config import checked, read_config
    from runtime.stage.health import status_of

    configs = [read_config(Path(stage.config_path)) for stage in plan.stages]
    return [await status_of(checked(config), 10) for config in configs]


async def is_free(plan: HostPlan, places: slice = slice(None), tries: int = 200) -> bool:
    """Return whether these servers hold no session any more, after some time at the most."""
    for _ in range(tries):
        found = (await statuses(plan))[places]
        if not any(status.sessions or status.kv_used_bytes for status in found):
            return True
        await asyncio.sleep(0.05)
    return False


async def wait_for_route(client: Client) -> None:
    """Wait until stage 0 sees a complete pipeline."""
    from runtime.errors import RouteError

    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(RouteError):
                await client.route(now=True)
                return
            await asyncio.sleep(0.05)


async def collect(client: Client, request: GenerationRequest) -> tuple[list[Event], EndEvent]:
    """Return all events of a generation, and its end once more."""
    events = [event async for event in client.generate(request)]
    end = events[-1]
    assert isinstance(end, EndEvent)
    return events, end


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


class Processes:
    """Every stage of a fleet as a process of its own, as a supervisor would run it."""

    def __init__(self, plan: HostPlan) -> None:
        self.plan = plan
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, stage: int) -> None:
        """Start one stage; its log is beside its configuration."""
        config = Path(self.plan.stages[stage].config_path)
        with config.with_suffix(".log").open("ab") as log:
            self._running[stage] = subprocess.Popen(
                [sys.executable, "-m", "runtime", "serve", "--config", str(config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pid(self, stage: int) -> int:
        """Return a stage's process id."""
        return self._running[stage].pid

    def send(self, stage: int, number: signal.Signals) -> None:
        """Send a signal to the stage's main process alone."""
        self._running[stage].send_signal(number)

    def wait(self, stage: int, seconds: float = 20) -> int:
        """Return how a stage has ended."""
        return self._running[stage].wait(seconds)

    def log(self, stage: int) -> str:
        """Return what a stage has said."""
        return Path(self.plan.stages[stage].config_path).with_suffix(".log").read_text()

    def is_ready(self, stage: int) -> bool:
        """Return whether a stage has announced that it is ready; it must not have ended."""
        if self._running[stage].poll() is not None:
            raise AssertionError(f"stage {stage} did not come up:\n{self.log(stage)}")
        return "stage ready" in self.log(stage)

    def wait_until_ready(self, *stages: int) -> None:
        """Wait until the stages have announced that they are ready."""
        for stage in stages:
            wait_until(partial(self.is_ready, stage), START_SECONDS)

    def kill(self, stage: int) -> None:
        """End a stage without a word, with everything that it started."""
        process = self._running.pop(stage)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End every stage, in order if it can."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def swarm_of_processes(
    root: Path, model: Path, splits: tuple[int, ...], **serving: object
) -> Iterator[Processes]:
    """Run every stage as a process and yield them once all are ready."""
    processes = Processes(prepare(make_fleet(root, model, splits, **serving)))
    stages = range(len(splits) + 1)
    try:
        for stage in stages:
            processes.start(stage)
        processes.wait_until_ready(*stages)
        yield processes
    finally:
        processes.stop()


def gateway(plan: HostPlan) -> str:
    """Return the base URL of a fleet's gateway on this machine."""
    config: dict[str, Any] = json.loads(plan.stages[0].config_text)
    return f"http://{LOOPBACK}:{config['gateway_port']}"
