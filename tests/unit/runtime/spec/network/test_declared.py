"""What is refused of data links before any host is touched, in the operator's words."""

from typing import Any

import pytest

from runtime.spec.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of
from runtime.spec.plan import plans
from tests.support.inventories import four_hosts
from tests.support.links import CABLE, link, linked


def refusal(hosts: dict[str, dict[str, Any]]) -> str:
    with pytest.raises(SpecError) as caught:
        fleet_of(hosts)
    return str(caught.value)


def test_an_address_of_a_link_is_one_of_its_host() -> None:
    fleet = fleet_of(linked())
    assert fleet.hosts["gpu-0"].addresses == ("10.99.0.1", "198.51.100.1")
    (found,) = plans(fleet, {})["gpu-0"].network.links
    assert (found.address, found.mtu, found.network) == ("10.99.0.1/29", 9000, "cable")
    assert [(peer.host, peer.address) for peer in found.peers] == [("gpu-1", "10.99.0.2")]


def test_neighbours_may_measure_and_nobody_else() -> None:
    found = {flow.host: flow.hosts for flow in flows(fleet_of(linked())) if flow.service == "proof"}
    assert found == {"gpu-0": ("gpu-1",), "gpu-1": ("gpu-0",)}
    assert not [flow for flow in flows(fleet_of(four_hosts())) if flow.service == "proof"]


def test_an_address_in_no_network_is_refused() -> None:
    hosts = linked()
    link(hosts, 0)["address"] = "10.98.0.1"
    assert "link enp5s0 has the address 10.98.0.1, which is in none of fleet.networks (10.99" in (
        refusal(hosts)
    )


def test_addresses_that_no_host_can_have_or_two_have_are_refused() -> None:
    hosts = linked()
    link(hosts, 0)["address"] = "10.99.0.7"
    assert "which no host of 10.99.0.0/29 can have" in refusal(hosts)
    link(hosts, 0)["address"] = "10.99.0.2"
    assert "10.99.0.2 is the address of 2 links: gpu-0 (enp5s0) and gpu-1" in refusal(hosts)


def test_an_interface_is_one_link() -> None:
    hosts = linked()
    more = {"interface": "enp5s0", "address": "10.99.0.3"}
    hosts["gpu-0"]["fleet_host"]["links"].append(more)
    assert "host gpu-0: 2 links are called 'enp5s0'" in refusal(hosts)


def test_a_link_never_carries_the_operators() -> None:
    hosts = linked()
    hosts["gpu-0"]["ansible_host"] = "10.99.0.1"
    assert "Ansible connects to 10.99.0.1, which is the address of a link" in refusal(hosts)
    around = refusal(linked(operators=["10.0.0.0/8"]))
    assert "'cable' 10.99.0.0/29, from which fleet.operators (10.0.0.0/8) log in" in around


def test_only_root_changes_links() -> None:
    hosts = linked(install={"scope": "user"}, model={"path": "~/m", "total_blocks": 4})
    for name in ("gpu-1", "gpu-2", "gpu-3"):
        hosts[name]["fleet_host"]["stages"] = []
    assert "host gpu-0 has fleet_host.links, but install.scope is user" in refusal(hosts)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("mtu", 900, "greater than or equal to 1280"),
        ("mtu", 70000, "less than or equal to 65535"),
        ("speed_gbps", 0, "greater than 0"),
    ],
)
def test_impossible_numbers_are_refused(key: str, value: float, words: str) -> None:
    assert words in refusal(linked(networks=[CABLE | {key: value}]))


def test_a_typo_names_the_key_that_was_meant() -> None:
    hosts = linked()
    link(hosts, 0)["nic"] = {"rx_rings": 4096}
    assert "unknown key 'links.0.nic.rx_rings'; did you mean 'rx_ring'?" in refusal(hosts)
