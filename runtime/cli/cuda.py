"""`stagefleet cuda`: drivers of hosts with GPUs, and what runs on them."""

from typing import Annotated

import typer

from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.project import run_playbook

AllowReboot = Annotated[
    bool,
    typer.Option("--allow-reboot", help="Reboot hosts whose driver works only after that."),
]


def cuda(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; show what would change.")
    ] = False,
    allow_reboot: AllowReboot = False,
    limit: Annotated[
        str | None, typer.Option(help="Only these hosts, in Ansible's patterns.")
    ] = None,
) -> None:
    """Install the drivers that GPUs need, and tell what is there: playbooks/cuda.yml.

    A driver that works is left alone.
    """
    arguments = ["--check", "--diff"] if check else []
    arguments += rebooting(allow_reboot)
    run_playbook("cuda", inventory, arguments + (["--limit", limit] if limit else []))


def rebooting(allowed: bool) -> list[str]:
    """Return what tells a playbook that it may reboot hosts."""
    return ["-e", "cuda_allow_reboot=true"] if allowed else []
