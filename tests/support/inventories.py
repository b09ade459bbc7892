"""Inventories as Ansible's variables by host, for tests of the specification."""

import copy
import shutil
from pathlib import Path
from typing import Any

import yaml

from runtime.spec.inventory import CLOUD_VARIABLE, HOST_VARIABLE, Inventory, read_inventory

SITE: dict[str, Any] = {
    "name": "lab",
    "model": {"path": "/models/m", "total_blocks": 32, "splits": [8, 16, 24]},
    "operators": ["192.0.2.0/24"],
}


def four_hosts(**site: Any) -> dict[str, dict[str, Any]]:
    """Return four hosts of one stage each, reached over SSH."""
    return {
        f"gpu-{stage}": {
            "ansible_host": f"198.51.100.{stage + 1}",
            "fleet": copy.deepcopy(SITE) | site,
            "fleet_host": {"stages": [stage]},
        }
        for stage in range(4)
    }


def read_as_if_made(path: Path, place: Path) -> Inventory:
    """Return an inventory of the project as it is read once its instances run.

    What the plugin would say of them, which has to ask a cloud, is said by a file in `place`.
    """
    site = shutil.copytree(path, place / path.name)
    plugins = list(site.glob("*.instances.yml"))
    if not plugins:
        return read_inventory(path)
    for plugin in plugins:
        plugin.unlink()
    hosts = {
        name: {
            CLOUD_VARIABLE: {
                "cloud": host[HOST_VARIABLE]["cloud"],
                "addresses": [f"10.30.0.{number + 11}"],
                "public_ip": f"203.0.113.{number + 31}",
            },
        }
        for number, (name, host) in enumerate(sorted(read_inventory(site).variables.items()))
        if "instance" in host[HOST_VARIABLE]
    }
    (site / "made.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    return read_inventory(site)
