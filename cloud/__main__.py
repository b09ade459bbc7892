"""`./fleet cloud`: the fleet's rules in its clouds, planned, made, watched and removed."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from cloud import instances_command, operation
from cloud.changes import foreign
from cloud.command import (
    EXIT_DIFFERS,
    DiffersError,
    Inventory,
    Json,
    Only,
    end_with,
    print_plans,
    progress,
    say_notices,
)
from cloud.drivers import driver
from cloud.operation import Plan, Wish
from cloud.provider import Provider
from cloud.rules import clouds_of
from runtime.cli.app import EXIT_FAILED, run_app
from runtime.cli.output import results
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import read_inventory
from runtime.swarm.authority import fleet_authority

app = typer.Typer(
    name="./fleet cloud",
    help="What a fleet needs in AWS, Google's cloud and Azure: firewall rules and instances.",
    epilog="Exit code: 0 nothing to do, 2 something differs, 1 an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(instances_command.app)

AllowPublic = Annotated[
    bool,
    typer.Option("--allow-public", help="Open to the world what the inventory says is public."),
]
Purge = Annotated[
    bool, typer.Option("--purge", help="Remove rules that others put into the fleet's groups.")
]


@app.command()
def plan(
    inventory: Inventory,
    cloud: Only = None,
    allow_public: AllowPublic = False,
    purge: Purge = False,
    json: Json = False,
) -> None:
    """Show what "apply" would change; changes nothing."""
    found = {
        name: operation.plan(wish, provider)
        for name, wish, provider in _wishes(
            read_inventory(inventory).fleet, cloud, allow_public, purge
        )
    }
    _show(found, json)
    end_with(any(each.changes for each in found.values()))


@app.command()
def apply(
    inventory: Inventory,
    cloud: Only = None,
    allow_public: AllowPublic = False,
    purge: Purge = False,
    json: Json = False,
) -> None:
    """Make the clouds' rules what the inventory says, and look again that they are."""
    fleet = read_inventory(inventory).fleet
    fleet_authority(fleet).create()
    found = {
        name: operation.apply(wish, provider, progress(name))
        for name, wish, provider in _wishes(fleet, cloud, allow_public, purge)
    }
    _show(found, json, made=True)


@app.command()
def destroy(
    inventory: Inventory, cloud: Only = None, purge: Purge = False, json: Json = False
) -> None:
    """Remove what was made for the fleet, and nothing else."""
    found = {
        name: operation.apply(wish.model_copy(update={"present": False}), provider, progress(name))
        for name, wish, provider in _wishes(
            read_inventory(inventory).fleet, cloud, allow_public=False, purge=purge
        )
    }
    _show(found, json, made=True)


@app.command()
def drift(inventory: Inventory, cloud: Only = None, json: Json = False) -> None:
    """Show in what the clouds differ from the inventory, rules of others included."""
    found = {
        name: operation.plan(wish, provider)
        for name, wish, provider in _wishes(
            read_inventory(inventory).fleet, cloud, allow_public=True, purge=False
        )
    }
    _show(found, json)
    end_with(any(each.changes or list(foreign(each.have)) for each in found.values()))


def _wishes(
    fleet: Fleet, only: str | None, allow_public: bool, purge: bool
) -> Iterator[tuple[str, Wish, Provider]]:
    owner = fleet_authority(fleet).mark()
    for name in clouds_of(fleet, only):
        wish = Wish(fleet=fleet, cloud=name, owner=owner, allow_public=allow_public, purge=purge)
        yield name, wish, driver(fleet.clouds[name], fleet.name, owner)


def _show(found: dict[str, Plan], json: bool, made: bool = False) -> None:
    if json:
        print_plans(found)
        return
    say_notices(found)
    for name, each in found.items():
        if not made:
            for change in each.changes:
                colour = "green" if change.kind.value.startswith("+") else "red"
                results.print(f"{name}: {change}", style=colour, markup=False, soft_wrap=True)
        count = len(each.changes)
        what = "changes made" if made else "changes to make"
        results.print(f"{name}: {count or 'no'} {what}", soft_wrap=True)


def main() -> None:
    """Run it; a mistyped command is an error, not a change that is pending."""
    try:
        run_app(app)
    except DiffersError:
        sys.exit(EXIT_DIFFERS)
    except SystemExit as end:
        # typer ends with the same number for a command that is mistyped.
        sys.exit(EXIT_FAILED if end.code == EXIT_DIFFERS else end.code)


if __name__ == "__main__":
    main()
