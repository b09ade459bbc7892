"""Options that several commands share."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from runtime.gateway.access import gateway_url
from runtime.spec.inventory import read_inventory

DEFAULT_INVENTORY = Path("inventories/local")

InventoryPath = Annotated[
    Path,
    typer.Option(
        "--inventory", "-i", envvar="STAGEFLEET_INVENTORY", help="The site: an Ansible inventory."
    ),
]
Url = Annotated[
    str | None, typer.Option(help="The gateway's address, instead of finding it by the inventory.")
]


@contextlib.contextmanager
def base_url(inventory: Path, url: str | None) -> Iterator[str]:
    """Yield the base URL of a gateway: the one that is given, or that of an inventory's fleet.

    Raises:
        SpecError: the inventory does not describe a fleet, or not how to reach its stage 0.
        DeployError: SSH does not get there.
    """
    if url is not None:
        yield url.rstrip("/")
    else:
        with gateway_url(read_inventory(inventory)) as base:
            yield base
