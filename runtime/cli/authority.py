"""`stagefleet authority`: the fleet's certificate authority, on the operator's machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.output import print_json
from runtime.swarm.authority import Authority

app = typer.Typer(help="The fleet's certificate authority.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="The authority's directory, kept private.")]
FleetName = Annotated[str, typer.Option("--fleet", help="The fleet's name.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; say what would change.")]


@app.command()
def create(directory: Directory, fleet: FleetName, check: Check = False) -> None:
    """Make the authority unless there is one."""
    authority = Authority(directory.expanduser(), fleet)
    changed = not authority.exists() if check else authority.create()
    print_json({"changed": changed})


@app.command()
def sign(
    directory: Directory,
    fleet: FleetName,
    server: Annotated[str, typer.Option(help="The server's name in the fleet, such as stage-1.")],
    check: Check = False,
) -> None:
    """Sign the request on standard input; a certificate that still serves is given again."""
    authority = Authority(directory.expanduser(), fleet)
    print_json(authority.sign(server, sys.stdin.read(), check=check))
