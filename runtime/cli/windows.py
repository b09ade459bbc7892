"""`stagefleet windows`: Windows machines, and the Linux in them that is a host of the fleet."""

from typing import Annotated

import typer

from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.project import run_playbook


def windows(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; show what would change.")
    ] = False,
    allow_reboot: Annotated[
        bool, typer.Option("--allow-reboot", help="Reboot machines that need it for their Linux.")
    ] = False,
    limit: Annotated[
        str | None, typer.Option(help="Only these machines, in Ansible's patterns.")
    ] = None,
) -> None:
    """Prepare Windows machines and the Linux in them: playbooks/windows.yml.

    The project's tests have no Windows: see docs/how-to/use-a-windows-pc.md.
    """
    arguments = ["--check", "--diff"] if check else []
    arguments += ["-e", "windows_node_allow_reboot=true"] if allow_reboot else []
    run_playbook("windows", inventory, arguments + (["--limit", limit] if limit else []))
