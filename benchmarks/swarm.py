"""What a balanced swarm of real processes does, beside what the simulator says that it does.

    .venv/bin/python -m benchmarks.swarm [--starts 10] [--seconds 30]

First servers start at once, 4 and 8 of them, so many times each: what they hold is printed. Then
the four servers of the guide, a fifth, a death without a word, and one server that becomes five
times slower; tokens per second of many sessions at once before, during and after, as shares of
what there was before, and the same shares from the simulator for the same events. Every server
gets a share of a core only (its process is stopped and continued many times a second), so that
servers do not take the cores from each other: each is a small machine of its own.
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from runtime.balance.capacity import capacity
from runtime.balance.member import Manner
from runtime.balance.simulation.workload import Life, Slowdown, Workload
from runtime.balance.simulation.world import World
from runtime.client.request import GenerationRequest
from runtime.spec.stage import PERIODS_TO_EXPIRY
from tests.support.balanced import BalancedSwarm, asking, balanced, balanced_swarm, held
from tests.support.models import import_tiny
from tests.support.swarm import wait_for_route

_BLOCKS: Final = 32
_SHARE: Final = 0.3
"""Of a core, for each server: five of them and stage 0 fit on two cores."""
_SLOWER: Final = 5
_SESSIONS: Final = 12
_NEW_TOKENS: Final = 24
_PERIOD_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 10.0
_SIMULATED: Final = 600


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30, help="of each throughput")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="swarm-") as directory:
        root = Path(directory)
        asyncio.run(_starts(root, options.starts))
        asyncio.run(_life(root, options.seconds))


async def _starts(root: Path, times: int) -> None:
    model = import_tiny("llama", root / "small", num_hidden_layers=_BLOCKS)[1]
    print(
        "| servers | blocks each | starts | no gap | no overlap | seconds: median (most) |\n"
        "|---|---|---|---|---|---|"
    )
    for servers in (4, 8):
        size = _BLOCKS // servers
        wanted = [(start, start + size) for start in range(0, _BLOCKS, size)]
        found, seconds = [], []
        for run in range(times):
            plan = balanced(root / f"{servers}-{run}", model, servers, size)
            async with balanced_swarm(plan) as swarm:
                began = time.monotonic()
                await swarm.start(*range(1, servers + 1), seconds=600)
                seconds.append(time.monotonic() - began)
                found.append(await held(swarm.client))
        whole = sum(
            all(any(a <= block < b for a, b in spans) for block in range(_BLOCKS))
            for spans in found
        )
        took = f"{statistics.median(seconds):.0f} ({max(seconds):.0f})" if seconds else ""
        print(
            f"| {servers} | {size} | {times} | {whole} | {found.count(wanted)} | {took} |",
            flush=True,
        )


@dataclass(frozen=True)
class _Seen:
    """What befell, how long the swarm took to mend it, and what it made then."""

    event: str
    real: float
    simulated: float
    seconds: float | None = None


async def _life(root: Path, seconds: float) -> None:
    # Large enough that a step is computing, not messages.
    model = import_tiny(
        "llama",
        root / "large",
        num_hidden_layers=_BLOCKS,
        hidden_size=512,
        intermediate_size=2048,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=64,
    )[1]
    plan = balanced(
        root / "life",
        model,
        5,
        8,
        check_seconds=_CHECK_SECONDS,
        announce_period_seconds=_PERIOD_SECONDS,
        kv_cache_mib=64,
    )
    print("\n| event | mended after | tokens/s | of before | simulated |\n|---|---|---|---|---|")
    before: _Seen | None = None
    async with balanced_swarm(plan) as swarm:
        async for each in _events(swarm, seconds):
            before = before or each
            mended = "" if each.seconds is None else f"{each.seconds:.0f} s"
            share = each.real / before.real
            # One by one: a swarm that is never mended ends this with an error.
            print(
                f"| {each.event} | {mended} | {each.real:.2f} | {share:.0%} "
                f"| {each.simulated / before.simulated:.0%} |",
                flush=True,
            )


async def _events(swarm: BalancedSwarm, seconds: float) -> AsyncIterator[_Seen]:
    four = (1, 2, 3, 4)
    await swarm.start(*four)
    for place in four:
        swarm.slow(place, _SHARE)
    await wait_for_route(swarm.client)
    request = GenerationRequest(prompts=("a",), max_new_tokens=_NEW_TOKENS, ignore_eos=True)
    async with asking(swarm.client, request, sessions=_SESSIONS) as tokens:
        yield _Seen("four servers", await _rate(tokens, seconds), _simulated())
        swarm.processes.start(5)
        swarm.slow(5, _SHARE)
        took = await swarm.until_online(5, seconds=300)
        yield _Seen("a fifth", await _rate(tokens, seconds), _simulated(fifth=True), took)

        spans = dict(await swarm.spans())
        alone = [place for place in four if list(spans.values()).count(spans[place]) == 1]
        slowed, lost = alone[0], alone[1]
        swarm.slow(slowed, _SHARE / _SLOWER)
        real = await _rate(tokens, _PERIOD_SECONDS)
        slow = _simulated(fifth=True, slowed=True, until=_SLOWED_AT + 5)
        yield _Seen(f"one of them {_SLOWER}x slower, at once", real, slow)
        took = await swarm.until_moved(spans, seconds=300)
        after = _simulated(fifth=True, slowed=True)
        yield _Seen("the same, mended", await _rate(tokens, seconds), after, took)
    earlier = tokens
    # Those that were open at the slow one stay there, and take minutes.
    async with asking(swarm.client, request, sessions=_SESSIONS) as tokens:
        yield _Seen("the same, new sessions only", await _rate(tokens, seconds), after)

        swarm.slow(slowed, _SHARE)
        await asyncio.sleep(4 * _PERIOD_SECONDS)  # until it has said that it is quick again
        swarm.kill(lost)
        took = await swarm.until_covered(_BLOCKS, without=lost, seconds=300)
        yield _Seen("one dies", await _rate(tokens, seconds), _simulated(), took)
    print(f"\n{dict(earlier + tokens)}")
    print(
        f"\nA record expires after {PERIODS_TO_EXPIRY * _PERIOD_SECONDS:g} s; one renews it every "
        f"{_PERIOD_SECONDS:g} s and looks at the balance every {_CHECK_SECONDS:g} s on average."
    )


async def _rate(count: Counter[str], seconds: float) -> float:
    """Return the tokens per second of all sessions, after they have settled."""
    await asyncio.sleep(_PERIOD_SECONDS)
    before, started = count["tokens"], time.monotonic()
    await asyncio.sleep(seconds)
    return (count["tokens"] - before) / (time.monotonic() - started)


_SLOWED_AT: Final = 300.0


def _simulated(*, fifth: bool = False, slowed: bool = False, until: float = _SIMULATED) -> float:
    """Return the capacity of a simulated swarm of equal servers at the end."""
    lives = tuple(
        Life(f"server-{place}", 60.0 * (place == 4), np.inf, 8, 1.0, 0.0)
        for place in range(5 if fifth else 4)
    )
    workload = Workload(_BLOCKS, _SLOWED_AT, lives, load_seconds=5)
    manner = Manner(
        _BLOCKS, mean_balance_check_period=_CHECK_SECONDS, renew_seconds=_PERIOD_SECONDS
    )
    if slowed:
        world = World(workload, manner, 0, published=False)
        world.run()
        spans = [(server.start, server.end) for server in world.serving.servers]
        alone = next(s for s in world.serving.servers if spans.count((s.start, s.end)) == 1)
        slowdown = Slowdown(alone.peer_id, _SLOWED_AT, 1 / _SLOWER)
        workload = replace(workload, slowdowns=(slowdown,))
    world = World(replace(workload, seconds=until), manner, 0, published=False)
    world.run()
    return capacity(world.serving)


if __name__ == "__main__":
    main()
