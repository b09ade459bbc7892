"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_INVENTORY = Path("inventories/local")

InventoryPath = Annotated[
    Path,
    typer.Option(
        "--inventory", "-i", envvar="STAGEFLEET_INVENTORY", help="The site: an Ansible inventory."
    ),
]
