"""Hosts that are joined by a cable, and what their cards say of themselves."""

from typing import Any

from tests.support.inventories import four_hosts

CABLE = {"name": "cable", "cidr": "10.99.0.0/29", "mtu": 9000, "speed_gbps": 10}


def linked(**site: Any) -> dict[str, dict[str, Any]]:
    """Return four hosts, the first two of which are joined by a cable."""
    hosts = four_hosts(**{"networks": [CABLE]} | site)
    for number in (0, 1):
        hosts[f"gpu-{number}"]["fleet_host"]["links"] = [
            {"interface": "enp5s0", "address": f"10.99.0.{number + 1}"}
        ]
    return hosts


def link(hosts: dict[str, dict[str, Any]], number: int) -> dict[str, Any]:
    found: dict[str, Any] = hosts[f"gpu-{number}"]["fleet_host"]["links"][0]
    return found


# As virtio_net, ixgbe (ethtool 5.16) and veth answer (ethtool 6.1).
RINGS = """\
Ring parameters for data0:
Pre-set maximums:
RX:\t\t4096
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t4096
Current hardware settings:
RX:\t\t512
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t512
"""
FEATURES = """\
Features for data0:
rx-checksumming: on
tcp-segmentation-offload: on
\ttx-tcp-segmentation: on
generic-segmentation-offload: on
generic-receive-offload: off
large-receive-offload: off [fixed]
"""
