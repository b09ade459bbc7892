"""How much of a swarm's capacity is kept while servers come and go, ours beside Petals' rule.

    .venv/bin/python -m benchmarks.balance [--servers 8,16,32,64] [--lifetimes 0.5,1,4]
        [--loads 10,30,90] [--first-seed 0] [--seeds 5] [--hours 4] [--scale] [--starts]
        [--sites]

Every cell runs both policies on the same events: arrivals, deaths, throughputs, spans. "Kept" is
the mean over time of the capacity over an upper bound for the servers alive
(docs/decisions/0021-capacity-is-a-flow.md); "smallest" is the same for the smallest throughput over
a block; "difference" is the mean of kept, ours less Petals', on the same events, with its standard
error. With --starts 2 to 16 servers start within one second, with 200 seeds each; with --scale the
time of one decision is measured, for more and more servers. With --sites servers are at two sites
that are 50 ms apart, with the client side at the first, and what the fastest route takes is
compared between servers that say where they are and the same ones that do not.
"""

import argparse
import itertools
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from runtime.balance.coordinate import Coordinate
from runtime.balance.decision import should_choose_other_blocks
from runtime.balance.member import Manner
from runtime.balance.placement import best_move, choose_best_blocks
from runtime.balance.simulation.measure import Result
from runtime.balance.simulation.ways import RouteTime, at_sites
from runtime.balance.simulation.workload import churn, start_together
from runtime.balance.simulation.world import World
from runtime.balance.snapshot import Placed, Snapshot

_BLOCKS = 32
_HOUR = 3600
_SCALE_BLOCKS = 126
_STARTS = 200
_SITES = (Coordinate(0, 0, 0.0001), Coordinate(0.05, 0, 0.0001))
_SITE_BLOCKS, _SITE_THROUGHPUT, _SITE_SPREAD = 8, 50, 0.03


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", default="8,16,32,64")
    parser.add_argument("--lifetimes", default="0.5,1,4", help="hours")
    parser.add_argument("--loads", default="10,30,90", help="seconds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hours", type=float, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--starts", action="store_true")
    parser.add_argument("--sites", action="store_true")
    options = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    if options.scale:
        scale()
        return
    if options.starts:
        starts()
        return
    if options.sites:
        sites(options.first_seed, options.seeds)
        return
    cells = itertools.product(
        map(int, options.servers.split(",")),
        map(float, options.lifetimes.split(",")),
        map(float, options.loads.split(",")),
    )
    print(
        f"{options.seeds} seeds of {options.hours:g} h, {_BLOCKS} blocks; kept: median (least)\n\n"
        "| servers | lifetime | loading | kept, ours | kept, Petals' | difference | smallest, ours "
        "| smallest, Petals' | gaps, ours | gaps, Petals' | moves/h, ours | moves/h, Petals' |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    with ProcessPoolExecutor() as pool:
        for servers, lifetime, load in cells:
            runs = [
                (servers, lifetime, load, options.hours, seed, published)
                for published in (False, True)
                for seed in range(options.first_seed, options.first_seed + options.seeds)
            ]
            found = list(pool.map(run, runs))
            ours, petals = found[: options.seeds], found[options.seeds :]
            row = _row(ours, petals, options.hours)
            print(f"| {servers} | {lifetime:g} h | {load:g} s | {row} |", flush=True)


def run(cell: tuple[int, float, float, float, int, bool]) -> Result:
    """Return what one run measures."""
    servers, lifetime, load, hours, seed, published = cell
    workload = churn(servers, _BLOCKS, lifetime * _HOUR, load, hours * _HOUR, seed)
    result = World(workload, Manner(_BLOCKS), seed, published=published).run()
    if result.broken:
        raise SystemExit(f"{cell}: {result.broken[0]}")
    return result


def _row(ours: list[Result], petals: list[Result], hours: float) -> str:
    columns = []
    for measure in ("kept", "kept_minimum", "gap_share"):
        for results in (ours, petals):
            values = [getattr(result, measure) for result in results]
            worst = max(values) if measure == "gap_share" else min(values)
            columns.append(f"{statistics.median(values):.1%} ({worst:.1%})")
        if measure == "kept":
            columns.append(_difference(ours, petals))
    columns.extend(
        f"{statistics.mean(result.moves for result in results) / hours:.1f}"
        for results in (ours, petals)
    )
    return " | ".join(columns)


def _difference(ours: list[Result], petals: list[Result]) -> str:
    return _mean([mine.kept - theirs.kept for mine, theirs in zip(ours, petals, strict=True)])


def _mean(found: list[float]) -> str:
    """Return the mean of shares, with its standard error."""
    error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return f"{100 * statistics.mean(found):+.1f} ± {100 * error:.1f} %"


def starts() -> None:
    """Print how servers end that start within one second, beside one after the other."""
    print(
        f"{_STARTS} starts each, {_BLOCKS} blocks, records late by up to 0 to 2 s\n\n"
        "| servers | blocks each | starts with a gap | other copies than one after the other |\n"
        "|---|---|---|---|"
    )
    for servers in range(2, 17):
        num_blocks = max(8, -(-_BLOCKS // servers))
        expected = _one_by_one(servers, num_blocks)
        gaps = others = 0
        for seed in range(_STARTS):
            delay = 2 * seed / (_STARTS - 1)
            workload = start_together(servers, _BLOCKS, num_blocks, seed, delay)
            # Nobody moves afterwards: what is looked at is where they start.
            manner = Manner(_BLOCKS, balance_quality=0)
            world = World(workload, manner, seed, published=False)
            world.run()
            gaps += bool(world.serving.holes)
            others += sorted(world.serving.replicas) != expected
        print(f"| {servers} | {num_blocks} | {gaps} | {others} |", flush=True)


def _one_by_one(servers: int, num_blocks: int) -> list[int]:
    snapshot = Snapshot.of(_BLOCKS, [])
    for number in range(servers):
        choice = choose_best_blocks(snapshot, str(number), num_blocks, 1)
        snapshot = snapshot.with_server(Placed(str(number), choice.start, choice.end, 1))
    return sorted(snapshot.replicas)


def sites(first_seed: int, seeds: int) -> None:
    """Print what the fastest route takes where servers say where they are, and where they do not.

    Args:
        first_seed: of each kind of swarm.
        seeds: how many.
    """
    print(
        f"{seeds} seeds each, {_BLOCKS} blocks, two sites {1000 * _SITES[1].x:.0f} ms apart\n\n"
        "| servers | what happens | a step, places known | unknown | shorter | longer "
        "| kept, unknown | difference |\n|---|---|---|---|---|---|---|---|"
    )
    numbers = range(first_seed, first_seed + seeds)
    with ProcessPoolExecutor() as pool:
        for servers, what in itertools.product((4, 8, 16), ("start", "come and go")):
            alike = list(pool.map(_two_sites, [(servers, what, seed) for seed in numbers]))
            both = tuple(zip(*alike, strict=True))
            longer = [1000 * (known[0] - unknown[0]) for known, unknown in alike]
            kept = [known[1] - unknown[1] for known, unknown in alike]
            columns = [
                *(f"{1000 * statistics.mean(run[0] for run in runs):.0f} ms" for runs in both),
                str(sum(milliseconds < -1 for milliseconds in longer)),
                str(sum(milliseconds > 1 for milliseconds in longer)),
                f"{statistics.mean(run[1] for run in both[1]):.1%}",
                _mean(kept),
            ]
            print(f"| {servers} | {what} | {' | '.join(columns)} |", flush=True)


def _two_sites(cell: tuple[int, str, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the mean seconds of a step and the capacity kept, places known and unknown."""
    servers, what, seed = cell
    workload = (
        start_together(servers, _BLOCKS, _SITE_BLOCKS, seed)
        if what == "start"
        else churn(servers, _BLOCKS, _HOUR, 30, 2 * _HOUR, seed)
    )
    draw = np.random.default_rng(seed)
    lives = tuple(
        replace(
            life,
            num_blocks=_SITE_BLOCKS,
            throughput=_SITE_THROUGHPUT * float(draw.lognormal(0, _SITE_SPREAD)),
        )
        for life in workload.lives
    )
    workload = at_sites(replace(workload, lives=lives), _SITES, seed)
    found = []
    for known in (True, False):
        same = replace(workload, places_are_known=known)
        route = RouteTime(same)
        world = World(same, Manner(_BLOCKS), seed, published=False, watch=route.watch)
        result = world.run()
        if result.broken:
            raise SystemExit(f"{cell}: {result.broken[0]}")
        found.append((route.mean(same.seconds), result.kept))
    return found[0], found[1]


def scale() -> None:
    """Print how long one decision takes, for more and more servers."""
    print("| servers | blocks | placing one: median | a look at the balance: median |")
    print("|---|---|---|---|")
    for count in (10, 100, 1_000, 10_000):
        placing, looking = [], []
        for seed in range(7):
            snapshot = _swarm(count, seed)
            started = time.perf_counter()
            choose_best_blocks(snapshot, "new", 8, 1.0, Coordinate(0, 0))
            placing.append(time.perf_counter() - started)
            best_move.cache_clear()
            snapshot = _swarm(count, seed)
            started = time.perf_counter()
            should_choose_other_blocks(snapshot, snapshot.servers[0].peer_id, 0.75, 30)
            looking.append(time.perf_counter() - started)
        print(
            f"| {count} | {_SCALE_BLOCKS} | {1000 * statistics.median(placing):.1f} ms "
            f"| {1000 * statistics.median(looking):.1f} ms |",
            flush=True,
        )


def _swarm(count: int, seed: int) -> Snapshot:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 33, count)
    return Snapshot.of(
        _SCALE_BLOCKS,
        (
            Placed(
                f"{number:05d}",
                int(start),
                int(start + length),
                float(draw.lognormal()),
                coordinate=Coordinate(draw.uniform(0, 0.1), draw.uniform(0, 0.1)),
            )
            for number, length in enumerate(lengths)
            for start in (draw.integers(0, _SCALE_BLOCKS - length + 1),)
        ),
    )


if __name__ == "__main__":
    main()
