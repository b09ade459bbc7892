"""`stagefleet identity`: a server's own key, on its own host."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.output import print_json
from runtime.swarm.identity import create_identity, peer_id, private_key, signing_request

app = typer.Typer(help="The key of a server, made on its own host.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="Where the server's key and certificates are.")]


@app.command()
def create(directory: Directory) -> None:
    """Make a key unless there is one; print the peer id and a signing request as JSON."""
    _print_identity(directory, changed=create_identity(directory))


@app.command()
def show(directory: Directory) -> None:
    """Print the peer id and a signing request as JSON."""
    _print_identity(directory, changed=False)


def _print_identity(directory: Path, *, changed: bool) -> None:
    key = private_key(directory)
    print_json(
        {
            "changed": changed,
            "peer_id": peer_id(key.public_key()),
            "request": signing_request(key),
        }
    )
