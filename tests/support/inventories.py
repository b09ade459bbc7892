"""Inventories as Ansible's variables by host, for tests of the specification."""

import copy
from typing import Any

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
