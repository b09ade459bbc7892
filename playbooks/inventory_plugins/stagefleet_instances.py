"""Instances that say they are hosts of a fleet, as hosts; `cloud/inventory.py` does the work."""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display

DOCUMENTATION = r"""
name: stagefleet_instances
short_description: Instances of a fleet in AWS and Google's cloud as hosts
description:
  - Reads the fleet from the inventory's own C(fleet.yml), and asks its clouds for the instances
    that are tagged as its hosts, whoever has made them.
  - Each that runs is a host of the group C(stagefleet_hosts), with C(ansible_host) and what its
    cloud says of it in C(fleet_host_cloud). The others are named in a warning.
  - Its file is called C(<anything>.instances.yml).
options:
  plugin:
    required: true
    type: str
    choices: [stagefleet_instances]
    description: The name of this plugin.
  fleet_file:
    type: str
    default: group_vars/all/fleet.yml
    description: Where C(fleet) is said, as seen from the file's directory.
author: stagefleet
"""


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc] # Ansible ships no types
    """What Ansible looks for in an inventory plugin."""

    NAME = "stagefleet_instances"

    def verify_file(self, path: str) -> bool:
        """Return whether a file is meant for this plugin."""
        return super().verify_file(path) and path.endswith((".instances.yml", ".instances.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: ANN401 - Ansible's own
        """Add the hosts."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            from cloud.inventory import read
            from runtime.errors import StagefleetError
        except ImportError as error:
            raise AnsibleParserError(
                f"this Python is not the one that ./fleet cloud has made: {error}"
            ) from error
        try:
            where = Path(path).parent / self.get_option("fleet_file")
            if not where.exists():
                raise AnsibleParserError(f"there is no {where}: say in fleet_file where fleet is")
            # What the loader kept, others would take for text that nobody may trust.
            said = loader.load_from_file(str(where), cache="none")
            found = read(said, list(inventory.hosts))
        except StagefleetError as error:
            raise AnsibleParserError(str(error)) from error
        for warning in found.warnings:
            Display().warning(warning)
        inventory.add_group(found.group)
        for name, variables in found.hosts.items():
            written = inventory.hosts[name].vars if name in inventory.hosts else {}
            inventory.add_host(name, group=found.group)
            for key, value in variables.items():
                # What an operator has written counts, in whatever order files are read.
                if key not in written:
                    inventory.set_variable(name, key, value)
