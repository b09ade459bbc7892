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


def balanced_hosts(
    servers: int, splits: tuple[int, ...] = (), **site: Any
) -> dict[str, dict[str, Any]]:
    """Return a client side and so many hosts of the group whose servers choose their blocks."""
    model = SITE["model"] | {"splits": list(splits)}
    common = {"fleet": SITE | {"model": model, "balance": {"num_blocks": 8}} | site}
    hosts: dict[str, dict[str, Any]] = {
        "client": {"ansible_host": "198.51.100.1", "fleet_host": {"stages": [0]}}
    }
    for number in range(1, servers + 1):
        hosts[f"gpu-{number}"] = {
            "ansible_host": f"198.51.100.{number + 1}",
            "group_names": ["balanced"],
        }
    return {name: copy.deepcopy(host | common) for name, host in hosts.items()}


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
