"""`stagefleet targets`: what a Prometheus server outside of the fleet reads of its exporters."""

from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.output import print_json
from runtime.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import read_inventory
from runtime.spec.monitoring import scrape_targets


def targets(inventory: InventoryPath = DEFAULT_INVENTORY) -> None:
    """Print the exporters for Prometheus' file_sd_configs, as they are reached from outside."""
    fleet = read_inventory(inventory).fleet
    if fleet.monitoring is None:
        raise SpecError(
            "fleet.monitoring is not given, so that no host tells metrics",
            hint="say there who takes them (docs/how-to/monitor-a-fleet.md)",
        )
    print_json(list(scrape_targets(fleet, _outside(fleet))))


def _outside(fleet: Fleet) -> dict[str, str]:
    """Return each host's public address, or else the first of its own."""
    return {
        name: host.public_ip or host.addresses[0]
        for name, host in fleet.hosts.items()
        if host.public_ip or host.addresses
    }
