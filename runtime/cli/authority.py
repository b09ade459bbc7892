"""`stagefleet authority`: the fleet's certificate authority, on the operator's machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.output import print_json
from runtime.swarm.authority import Authority
from runtime.swarm.identity import peer_id, private_key

app = typer.Typer(help="The fleet's certificate authority.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="The authority's directory, kept private.")]
FleetName = Annotated[str, typer.Option("--fleet", help="The fleet's name.")]
ServerName = Annotated[
    str, typer.Option("--server", help="The server's name in the fleet, such as stage-1.")
]
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
    server: ServerName,
    check: Check = False,
) -> None:
    """Sign the request on standard input; a certificate that still serves is given again."""
    authority = Authority(directory.expanduser(), fleet)
    print_json(authority.sign(server, sys.stdin.read(), check=check))


@app.command()
def issue(
    directory: Directory,
    identity: Annotated[Path, typer.Argument(help="Where the server's key and certificates go.")],
    fleet: FleetName,
    server: ServerName,
) -> None:
    """Make a server's key and certificates on this machine; print its peer id.

    For servers of this machine, and for a directory that is then copied to another; the playbooks
    make each key on its own host instead, where it stays.
    """
    changed = Authority(directory.expanduser(), fleet).issue(server, identity)
    print_json({"changed": changed, "peer_id": peer_id(private_key(identity).public_key())})
