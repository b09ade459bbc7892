"""`stagefleet simulate-balance`: how a swarm would balance itself, on a simulated clock."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from runtime.balance.member import Manner
from runtime.balance.simulation.measure import Result
from runtime.balance.simulation.workload import Workload, churn, start_together
from runtime.balance.simulation.world import World
from runtime.cli.output import print_json, results
from runtime.errors import RequestError

_HOUR_SECONDS = 3600


class Policy(StrEnum):
    """Who decides: ours, the rule that Petals publishes, or one after the other."""

    STAGEFLEET = "stagefleet"
    PETALS = "petals"
    BOTH = "both"


def simulate_balance(
    servers: Annotated[int, typer.Option(min=1, max=10_000, help="How many at a time.")] = 16,
    blocks: Annotated[int, typer.Option(min=1, max=4096, help="Of the model.")] = 32,
    lifetime: Annotated[float, typer.Option(min=0.01, help="Mean hours that a server stays.")] = 1,
    load_seconds: Annotated[
        float, typer.Option(min=0, help="How long a server loads its blocks.")
    ] = 30,
    hours: Annotated[float, typer.Option(min=0.01, help="How long to watch.")] = 4,
    num_blocks: Annotated[
        int,
        typer.Option(
            min=0, help="Let equal servers with so many blocks start within one second, and stay."
        ),
    ] = 0,
    balance_quality: Annotated[float, typer.Option(min=0)] = Manner.balance_quality,
    policy: Annotated[Policy, typer.Option(help="Whose rules servers follow.")] = Policy.BOTH,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Simulate a swarm of balanced servers: the real decisions and protocol, on a simulated clock.

    Servers come and go, the same ones for every policy. Ends with 1 if a rule was broken: a block's
    last copy left, or two moves at once.
    """
    if num_blocks > blocks:
        raise RequestError(
            f"servers with {num_blocks} blocks of a model that has {blocks}",
            hint="choose --num-blocks of at most --blocks",
        )
    workload = (
        start_together(servers, blocks, num_blocks, seed)
        if num_blocks
        else churn(
            servers, blocks, lifetime * _HOUR_SECONDS, load_seconds, hours * _HOUR_SECONDS, seed
        )
    )
    chosen = [Policy.STAGEFLEET, Policy.PETALS] if policy is Policy.BOTH else [policy]
    manner = Manner(blocks, balance_quality=balance_quality)
    found = {
        each.value: World(workload, manner, seed, published=each is Policy.PETALS).run()
        for each in chosen
    }
    if json_output:
        print_json({"seed": seed, "policies": {name: asdict(each) for name, each in found.items()}})
    else:
        results.print(_table(found, workload))
        for name, result in found.items():
            for rule in result.broken:
                results.print(f"{name} broke a rule: {rule}", markup=False)
    if any(result.broken for result in found.values()):
        raise typer.Exit(1)


def _table(found: dict[str, Result], workload: Workload) -> Table:
    table = Table("", *found)
    hours = workload.seconds / _HOUR_SECONDS
    rows = {
        "capacity kept": [f"{result.kept:.1%}" for result in found.values()],
        "smallest throughput kept": [f"{result.kept_minimum:.1%}" for result in found.values()],
        "time with a gap": [f"{result.gap_share:.2%}" for result in found.values()],
        "moves an hour": [f"{result.moves / hours:.1f}" for result in found.values()],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
