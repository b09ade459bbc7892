"""Decode speed of pipelines of 1, 2 and 4 servers against the unsplit model, side by side.

    ./fleet benchmark [--rounds N] [--threads N] [--json]

Every side continues the same prompt greedily in float32: transformers' own `generate`; our engine
unsplit, called in a loop without any network; and pipelines of real processes on loopback, with TLS
and the DHT, asked over HTTP as users ask. The sides take turns, round by round, so that a slow
minute of the machine hits all of them, and ratios are taken within a round. All sides must give
the same tokens.

A pipeline of N servers is N processes: stage 0, which holds the embeddings and the first span, and
the servers behind it. One sequence is in flight, so they compute one after another. One server is
the whole model behind the gateway: what it loses against the bare loop is the price of serving.

All processes share the cores of `--cpus`, by default one, and use one thread for each of them. A
virtual machine loses time to its neighbours ("steal"), most of it where work moves to an idle core,
which would look like a cost of the pipeline: a turn that lost more than a twentieth is taken again
and counted as left out.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime.engine.options import Sampling
from runtime.engine.reference import load_engine
from runtime.engine.sampling import sample
from runtime.gateway.remote import events
from runtime.model.manifest import read_manifest
from runtime.spec.base import Span
from runtime.spec.stage import Serving
from tests.support.models import sample_model
from tests.support.swarm import gateway, swarm_of_processes

PROMPT = "The history of distributed computing begins with"
SERVERS = (1, 2, 4)
NEW_TOKENS = 24
_MAX_STEAL = 0.05
_MAX_TRIES = 8  # the last one counts in any case
# As in production: tests announce every second, which costs a server some 4 % of a core.
_ANNOUNCE_SECONDS = Serving().announce_period_seconds


@dataclass
class Side:
    """One way to generate.

    Attributes:
        run: generates once; returns the tokens, decode tokens/s, and what each hop did, if known.
        turns: what each round that counts gave.
    """

    name: str
    run: Callable[[], tuple[list[int], float, list[Any]]]
    turns: list["Turn"] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Decode tokens/s of each round."""
        return [turn.speed for turn in self.turns]


@dataclass(frozen=True)
class Turn:
    """One side in one round.

    Attributes:
        speed: decode tokens/s.
        trace: what each hop did in each step.
        steal: the share of its cores' time that the hypervisor gave to others.
    """

    speed: float
    trace: list[Any]
    steal: float


def splits_for(servers: int, total_blocks: int) -> tuple[int, ...]:
    """Return splits that give each server, stage 0 among them, its even share."""
    return tuple(round(total_blocks * stage / servers) for stage in range(1, servers))


class _Clock:
    """Notes when each token comes out of transformers' `generate`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: object) -> None:
        del value
        self.times.append(time.monotonic())

    def end(self) -> None:
        """Nothing: the last token has been put."""


def transformers_side(model: Path) -> Side:
    """Return transformers' own unsplit generate; prefill is not counted, as for all sides."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]

    def run() -> tuple[list[int], float, list[Any]]:
        clock = _Clock()
        with torch.inference_mode():
            found = whole.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
                streamer=clock,
            )
        # The first entry is the prompt, the second the token that the prefill gives.
        seconds = clock.times[-1] - clock.times[1]
        return found[0, ids.shape[1] :].tolist(), (NEW_TOKENS - 1) / seconds, []

    return Side("transformers generate", run)


def engine_side(model: Path, threads: int) -> Side:
    """Return our engine with all blocks, in this process."""
    total = read_manifest(model).total_blocks
    torch.set_num_threads(threads)
    engine = load_engine(model, Span(start=0, end=total), dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompt = tokenizer(PROMPT, return_tensors="pt")["input_ids"]

    def run() -> tuple[list[int], float, list[Any]]:
        cache, ids, found, times = engine.open((0,)), prompt, [], []
        for _ in range(NEW_TOKENS):
            logits = engine.logits(cache, engine.embed(cache, ids))
            found += sample(logits, Sampling(), [cache.length])
            times.append(time.monotonic())
            ids = torch.tensor([[found[-1]]])
        cache.close()
        return found, (NEW_TOKENS - 1) / (times[-1] - times[0]), []

    return Side("our engine, unsplit", run)


@contextlib.contextmanager
def pipeline_side(root: Path, model: Path, servers: int, threads: int) -> Iterator[Side]:
    """Yield a pipeline of real processes."""
    splits = splits_for(servers, read_manifest(model).total_blocks)
    request = {
        "prompts": [PROMPT],
        "max_new_tokens": NEW_TOKENS,
        "ignore_eos": True,
        "traced": True,
    }
    with swarm_of_processes(
        root, model, splits, threads=threads, announce_period_seconds=_ANNOUNCE_SECONDS
    ) as processes:
        base = gateway(processes.plan)

        def run() -> tuple[list[int], float, list[Any]]:
            end = list(events(base, request))[-1]
            return end["token_ids"][0], end["decode_tokens_per_second"], end["trace"][1:]

        yield Side(f"{servers} server{'s' if servers > 1 else ''}", run)


def hop_times(traces: list[Any]) -> list[Mapping[str, float]]:
    """Return for each hop the median milliseconds of a step in computing, serialising, on the wire.

    Serialising is all that a hop does between receiving and sending but computing.
    A hop's wire time ends with the arrival at the next hop; the last hop's with the arrival at
    stage 0, which is when stage 0 begins the next step. All hops share this machine's clock.
    """
    hops: list[Mapping[str, float]] = []
    for index in range(len(traces[0]) if traces else 0):
        rows = []
        for step, following in itertools.pairwise(traces):
            _, received, started, finished, sent = step[index]
            arrived = step[index + 1][1] if index + 1 < len(step) else following[0][1]
            if arrived >= sent:  # else the next trace is of another generation
                around = (started - received) + (sent - finished)
                rows.append((finished - started, around, arrived - sent))
        columns = [statistics.median(column) / 1e6 for column in zip(*rows, strict=True)]
        hops.append(dict(zip(("compute_ms", "serialise_ms", "wire_ms"), columns, strict=True)))
    return hops


def processor_times(cpus: frozenset[int]) -> tuple[int, int]:
    """Return the ticks stolen from these cores and all their ticks, since the machine started."""
    rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    # user nice system idle iowait irq softirq steal; man 5 proc_stat
    mine = [list(map(int, row[1:9])) for row in rows if row[0] in {f"cpu{cpu}" for cpu in cpus}]
    return sum(row[7] for row in mine), sum(map(sum, mine))


def measure(sides: list[Side], rounds: int, cpus: frozenset[int]) -> int:
    """Let the sides take turns; return how many turns were left out for steal.

    Raises:
        SystemExit: two sides give different tokens.
    """
    expected: list[int] = []
    left_out = 0
    for number in range(rounds + 1):
        for side in sides:
            for last_try in (False,) * (_MAX_TRIES - 1) + (True,):
                stolen, total = processor_times(cpus)
                ids, speed, trace = side.run()
                stolen_after, total_after = processor_times(cpus)
                expected = expected or ids
                if ids != expected:
                    sys.exit(f"{side.name} gives other tokens: {ids} instead of {expected}")
                steal = (stolen_after - stolen) / max(1, total_after - total)
                if number == 0:
                    break  # only to warm up
                if steal <= _MAX_STEAL or last_try:
                    side.turns.append(Turn(speed, trace, steal))
                    break
                left_out += 1
        sys.stderr.write(f"round {number} of {rounds}{'' if number else ', not counted'}\n")
    return left_out


def report(sides: list[Side], cpus: frozenset[int], left_out: int) -> dict[str, Any]:
    """Return everything that was measured, as plain data."""
    unsplit = next(side for side in sides if side.name == "our engine, unsplit")
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "cores_used": len(cpus),
        "new_tokens": NEW_TOKENS,
        "rounds": len(unsplit.turns),
        "turns_left_out_for_steal": left_out,
        "sides": [
            {
                "name": side.name,
                "tokens_per_second": statistics.median(side.speeds),
                "lowest": min(side.speeds),
                "highest": max(side.speeds),
                "ratio_to_unsplit": statistics.median(
                    mine / theirs for mine, theirs in zip(side.speeds, unsplit.speeds, strict=True)
                ),
                "steal": statistics.median(turn.steal for turn in side.turns),
                "hops": hop_times([step for turn in side.turns for step in turn.trace]),
            }
            for side in sides
        ],
    }


def print_tables(found: Mapping[str, Any], console: Console) -> None:
    """Print what was measured for people."""
    table = Table(
        title=f"decode on {found['cores_used']} of: {found['machine']}; torch {found['torch']}; "
        f"{found['rounds']} rounds, {found['turns_left_out_for_steal']} turns left out",
        title_justify="left",
    )
    for column in ("side", "tokens/s (median)", "lowest", "highest", "of unsplit", "steal"):
        table.add_column(column)
    for side in found["sides"]:
        table.add_row(
            side["name"],
            f"{side['tokens_per_second']:.1f}",
            f"{side['lowest']:.1f}",
            f"{side['highest']:.1f}",
            f"{side['ratio_to_unsplit']:.2f}",
            f"{side['steal']:.0%}",
        )
    console.print(table)
    hops = Table(title="milliseconds of a step, by hop (median)", title_justify="left")
    for column in ("side", "stage", "compute", "serialise", "wire to the next"):
        hops.add_column(column)
    for side in found["sides"]:
        for stage, hop in enumerate(side["hops"]):
            hops.add_row(
                side["name"] if stage == 0 else "",
                str(stage),
                f"{hop['compute_ms']:.2f}",
                f"{hop['serialise_ms']:.2f}",
                f"{hop['wire_ms']:.2f}",
            )
    console.print(hops)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default: 7)")
    parser.add_argument(
        "--servers",
        type=int,
        nargs="+",
        default=SERVERS,
        metavar="N",
        help=f"the pipelines to measure (default: {' '.join(map(str, SERVERS))})",
    )
    parser.add_argument(
        "--cpus",
        type=int,
        nargs="+",
        default=[min(os.sched_getaffinity(0))],
        metavar="CPU",
        help="the cores that all processes share (default: one)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # An end by SIGTERM goes the same way as one by Ctrl-C: no stage is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    model = sample_model()
    cpus = frozenset(options.cpus)
    # Inherited by every process that is started from here.
    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(len(cpus))
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = [transformers_side(model), engine_side(model, len(cpus))]
        for servers in options.servers:
            side = pipeline_side(root / str(servers), model, servers, len(cpus))
            sides.append(stack.enter_context(side))
        left_out = measure(sides, options.rounds, cpus)
    found = report(sides, cpus, left_out)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print_tables(found, Console(highlight=False))


if __name__ == "__main__":
    main()
