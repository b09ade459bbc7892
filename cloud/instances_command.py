"""`./fleet cloud instances`: the fleet's instances in its clouds, listed, made and terminated."""

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from cloud import instance_operation as operation
from cloud.command import Inventory, Json, Only, end_with, print_plans, progress, say_notices
from cloud.drivers import instances_driver
from cloud.errors import CloudError
from cloud.instance_operation import Instances, Run
from cloud.instances import Seen, Verb
from cloud.rules import clouds_of
from runtime.cli.output import messages, print_json, results
from runtime.spec.clouds import AzureCloud
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import read_inventory
from runtime.swarm.authority import fleet_authority

app = typer.Typer(
    name="instances",
    help="The fleet's instances: list, create, start, stop, terminate.",
    no_args_is_help=True,
)

Hosts = Annotated[
    list[str] | None, typer.Option("--host", help="A host; may be given again; default: all.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Change nothing; end with 2 if anything would change.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for the fleet's name.")]


@app.command("list")
def list_(inventory: Inventory, cloud: Only = None, json: Json = False) -> None:
    """Show the instances that say they are hosts of the fleet, whoever has made them."""
    fleet = read_inventory(inventory).fleet
    owner = fleet_authority(fleet).mark()
    found = {name: run for name, (_, run) in _looked(Verb.CREATE, fleet, cloud).items()}
    if json:
        print_json(
            {
                name: [_record(seen, owner) for seen in run.seen if seen.lives]
                for name, run in found.items()
            }
        )
        return
    for name, run in found.items():
        for line in _listed(run, owner):
            results.print(f"{name}: {line}", markup=False, soft_wrap=True)
    say_notices({name: run.plan for name, run in found.items()})


@app.command()
def create(
    inventory: Inventory,
    host: Hosts = None,
    cloud: Only = None,
    check: Check = False,
    json: Json = False,
) -> None:
    """Make the instances that hosts of the inventory ask for and that are not there."""
    fleet = read_inventory(inventory).fleet
    if not check:
        fleet_authority(fleet).create()
    _run(Verb.CREATE, fleet, _looked(Verb.CREATE, fleet, cloud, host), check, json)


@app.command()
def start(inventory: Inventory, host: Hosts = None, cloud: Only = None, json: Json = False) -> None:
    """Start the fleet's instances that are stopped."""
    fleet = read_inventory(inventory).fleet
    _run(Verb.START, fleet, _looked(Verb.START, fleet, cloud, host), False, json)


@app.command()
def stop(inventory: Inventory, host: Hosts = None, cloud: Only = None, json: Json = False) -> None:
    """Stop the fleet's instances; their disks stay and are paid for."""
    fleet = read_inventory(inventory).fleet
    _run(Verb.STOP, fleet, _looked(Verb.STOP, fleet, cloud, host), False, json)


@app.command()
def terminate(
    inventory: Inventory,
    host: Hosts = None,
    cloud: Only = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Terminate the fleet's instances, with their disks and all that is on them."""
    fleet = read_inventory(inventory).fleet
    looked = _looked(Verb.TERMINATE, fleet, cloud, host)
    if not yes and any(run.plan.changes for _, run in looked.values()):
        _ask(fleet, {name: run for name, (_, run) in looked.items()})
    _run(Verb.TERMINATE, fleet, looked, False, json)


Looked = Mapping[str, tuple[Instances, Run]]


def _looked(verb: Verb, fleet: Fleet, only: str | None, hosts: list[str] | None = None) -> Looked:
    owner = fleet_authority(fleet).mark()
    found: dict[str, tuple[Instances, Run]] = {}
    for name in clouds_of(fleet, only):
        cloud = fleet.clouds[name]
        if isinstance(cloud, AzureCloud) and only is None:
            messages.print(f"{name}: instances in Azure are not looked for yet", style="yellow")
            continue
        provider = instances_driver(cloud, fleet.name, owner)
        run = operation.look(verb, fleet, name, provider, owner, hosts or ())
        found[name] = (provider, run)
    operation.require_known(hosts or (), [run for _, run in found.values()])
    return found


def _run(verb: Verb, fleet: Fleet, looked: Looked, check: bool, json: bool) -> None:
    runs = {name: run for name, (_, run) in looked.items()}
    if not json:
        say_notices({name: run.plan for name, run in runs.items()})
    for name, (provider, run) in looked.items():
        if check and not json:
            for change in run.plan.changes:
                results.print(f"{name}: {change}", markup=False, soft_wrap=True)
        elif not check:
            operation.do(run, fleet, provider, progress(name))
    if json:
        print_plans({name: run.plan for name, run in runs.items()})
    else:
        for name, run in runs.items():
            count = len(run.plan.changes) or "nothing"
            results.print(f"{name}: {count} to {verb}" if check else f"{name}: {verb}: {count}")
    end_with(check and any(run.plan.changes for run in runs.values()))


def _ask(fleet: Fleet, runs: Mapping[str, Run]) -> None:
    for name, run in runs.items():
        for change in run.plan.changes:
            messages.print(f"{name}: {change}", markup=False, soft_wrap=True)
    if not sys.stdin.isatty():
        raise CloudError(
            "nobody is there to confirm that these instances and their disks are to go",
            hint="add --yes if that is meant",
        )
    answer = typer.prompt(f"All that is on them is lost. The fleet's name ({fleet.name})", err=True)
    if answer.strip() != fleet.name:
        raise CloudError("that is not the fleet's name: nothing was terminated")


def _listed(run: Run, owner: str) -> list[str]:
    lines = [
        f"{seen.host}: {seen.id} {seen.life.value}, {seen.type}, in {seen.zone}, "
        f"{seen.public_ip or ', '.join(seen.addresses) or 'no address'}"
        + ("" if _is_own(seen, owner) else ", made by another tool")
        for seen in sorted(run.seen, key=lambda seen: seen.host)
        if seen.lives
    ]
    missing = [f"{change.host}: not made yet" for change in run.plan.changes]
    return [*lines, *missing] or ["no instances"]


def _record(seen: Seen, owner: str) -> dict[str, object]:
    shown = seen.model_dump(mode="json", exclude={"owner", "life", "reason"})
    return shown | {"state": seen.life.name.lower(), "own": _is_own(seen, owner)}


def _is_own(seen: Seen, owner: str) -> bool:
    return bool(owner) and seen.owner == owner
