"""What the commands about clouds have in common: options, progress, and how they end."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.output import messages

EXIT_DIFFERS = 2

Inventory = Annotated[
    Path, typer.Option("--inventory", "-i", help="The site: an Ansible inventory.")
]
Only = Annotated[
    str | None, typer.Option("--cloud", help="One of fleet.clouds; default: each of them.")
]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


class DiffersError(Exception):
    """A cloud is not what the inventory says: the end of a command that tells so."""


def end_with(differs: bool) -> None:
    """End a command that has told whether something differs.

    Raises:
        DiffersError: it does.
    """
    if differs:
        raise DiffersError


def progress(cloud: str) -> Callable[[object], None]:
    """Return what tells an operator what is done in a cloud, on standard error."""

    def done(what: object) -> None:
        messages.print(f"{cloud}: {what}", markup=False, soft_wrap=True)

    return done
