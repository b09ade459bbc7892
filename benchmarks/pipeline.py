"""Decode speed of pipelines of 1, 2 and 4 servers against the unsplit model, side by side.

    ./fleet benchmark [--rounds N] [--threads N] [--json]

Every side continues the same prompt greedily in float32: transformers' own `generate`; our engine
unsplit, called in a loop without any network; and pipelines of real processes on loopback, with TLS
and the DHT, asked over HTTP as users ask. The sides take turns, round by round, so that a slow
minute of the machine hits all of them, and ratios are taken within a round. All sides must give
the same tokens.

A pipeline of N servers is stage 0, which holds the embeddings and the first span, and N servers
behind it: N + 1 processes. One sequence is in flight, so the processes compute one after another;
each may use all cores.
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
from tests.support.models import sample_model
from tests.support.swarm import gateway, swarm_of_processes

PROMPT = "The history of distributed computing begins with"
SERVERS = (1, 2, 4)
NEW_TOKENS = 48


@dataclass
class Side:
    """One way to generate.

    Attributes:
        run: generates once; returns the tokens, decode tokens/s, and what each hop did, if known.
        speeds: decode tokens/s of each round.
    """

    name: str
    run: Callable[[], tuple[list[int], float, list[Any]]]
    speeds: list[float] = field(default_factory=list)
    traces: list[Any] = field(default_factory=list)


def splits_for(servers: int, total_blocks: int) -> tuple[int, ...]:
    """Return splits that give each of `servers` + 1 stages its even share."""
    stages = servers + 1
    return tuple(round(total_blocks * stage / stages) for stage in range(1, stages))


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
    engine = load_engine(model, Span(start=0, end=total), dtype="float32", threads=threads)
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
    with swarm_of_processes(root, model, splits, threads=threads) as processes:
        base = gateway(processes.plan)

        def run() -> tuple[list[int], float, list[Any]]:
            end = list(events(base, request))[-1]
            return end["token_ids"][0], end["decode_tokens_per_second"], end["trace"][1:]

        yield Side(f"{servers} server{'s' if servers > 1 else ''}", run)


def hop_times(traces: list[Any]) -> list[Mapping[str, float]]:
    """Return for each hop the median milliseconds of a step in computing, serialising, on the wire.

    A hop's wire time ends with the arrival at the next hop; the last hop's with the arrival at
    stage 0, which is when stage 0 begins the next step. All hops share this machine's clock.
    """
    hops: list[Mapping[str, float]] = []
    for index in range(len(traces[0])):
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


def measure(sides: list[Side], rounds: int) -> None:
    """Let the sides take turns; the first round is not counted.

    Raises:
        SystemExit: two sides give different tokens.
    """
    expected: list[int] = []
    for number in range(rounds + 1):
        sys.stderr.write(f"round {number} of {rounds}{'' if number else ', not counted'}\n")
        for side in sides:
            ids, speed, trace = side.run()
            expected = expected or ids
            if ids != expected:
                sys.exit(f"{side.name} gives other tokens: {ids} instead of {expected}")
            if number > 0:
                side.speeds.append(speed)
                side.traces += trace


def report(sides: list[Side], threads: int) -> dict[str, Any]:
    """Return everything that was measured, as plain data."""
    unsplit = next(side for side in sides if side.name == "our engine, unsplit")
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads_per_process": threads,
        "new_tokens": NEW_TOKENS,
        "rounds": len(unsplit.speeds),
        "sides": [
            {
                "name": side.name,
                "tokens_per_second": statistics.median(side.speeds),
                "lowest": min(side.speeds),
                "highest": max(side.speeds),
                "ratio_to_unsplit": statistics.median(
                    mine / theirs for mine, theirs in zip(side.speeds, unsplit.speeds, strict=True)
                ),
                "hops": hop_times(side.traces) if side.traces else [],
            }
            for side in sides
        ],
    }


def print_tables(found: Mapping[str, Any], console: Console) -> None:
    """Print what was measured for people."""
    table = Table(
        title=f"decode, {found['machine']}, torch {found['torch']}, "
        f"{found['threads_per_process']} threads a process, {found['rounds']} rounds",
        title_justify="left",
    )
    for column in ("side", "tokens/s (median)", "lowest", "highest", "of unsplit"):
        table.add_column(column)
    for side in found["sides"]:
        table.add_row(
            side["name"],
            f"{side['tokens_per_second']:.1f}",
            f"{side['lowest']:.1f}",
            f"{side['highest']:.1f}",
            f"{side['ratio_to_unsplit']:.2f}",
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
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of each process (default: all cores)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # An end by SIGTERM goes the same way as one by Ctrl-C: no stage is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    model = sample_model()
    torch.set_num_threads(options.threads)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = [transformers_side(model), engine_side(model, options.threads)]
        for servers in SERVERS:
            side = pipeline_side(root / str(servers), model, servers, options.threads)
            sides.append(stack.enter_context(side))
        measure(sides, options.rounds)
    found = report(sides, options.threads)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print_tables(found, Console(highlight=False))


if __name__ == "__main__":
    main()
