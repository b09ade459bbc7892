"""A lab is what an inventory describes, or is refused in the operator's words."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from lab.disk import networkd_files
from lab.fault import loss_rules
from lab.network import nat_rules, port_of
from lab.topology import OUTSIDE, Kind, Topology, topology
from runtime.cli.project import ROOT
from runtime.spec.errors import SpecError
from runtime.spec.inventory import Inventory, fleet_of, read_inventory

LAB = ROOT / "inventories" / "lab"


def inventory(**hosts: dict[str, Any]) -> Inventory:
    """Return an inventory with these hosts, of a fleet with one network of its own."""
    site = {
        "name": "test",
        "model": {
            "path": "/srv/models/m",
            "total_blocks": 30,
            "splits": list(range(1, sum("fleet_host" in host for host in hosts.values()))),
        },
        "operators": ["10.1.0.0/24"],
        "networks": [{"name": "fast", "cidr": "10.2.0.0/24"}],
    }
    variables = {
        name: {"ansible_user": "root", "fleet": site} | host for name, host in hosts.items()
    }
    return Inventory(fleet=fleet_of(variables), variables=variables)


def host(last: int, stage: int, **changes: Any) -> dict[str, Any]:
    return {
        "ansible_host": f"10.1.0.{last}",
        "fleet_host": {"addresses": [f"10.2.0.{last}", f"10.1.0.{last}"], "stages": [stage]},
    } | changes


@pytest.fixture(scope="module")
def lab() -> Topology:
    return topology(read_inventory(LAB))


def test_the_labs_own_inventory_has_every_kind_of_host(lab: Topology) -> None:
    assert {one.kind for one in lab.hosts} == set(Kind)
    assert lab.nats
    assert any(one.wheelhouse for one in lab.hosts)
    assert any(one.environment for one in lab.hosts)


def test_a_host_that_is_no_part_of_the_fleet_is_on_its_networks_too() -> None:
    other = {"ansible_host": "10.1.0.9", "lab_addresses": ["10.2.0.9"]}
    made = topology(inventory(a=host(3, 0), other=other))
    cards = [(nic.interface, nic.network, nic.address) for nic in made.host("other").nics]
    assert cards == [("eth0", OUTSIDE, "10.1.0.9/24"), ("data0", "fast", "10.2.0.9/24")]


def test_every_address_is_in_its_network_and_nobody_elses(lab: Topology) -> None:
    seen = [lab.operator, *(nat.public_ip for nat in lab.nats)]
    for one in lab.hosts:
        for nic in one.nics:
            interface = ipaddress.ip_interface(nic.address)
            assert interface.network == ipaddress.ip_network(lab.network(nic.network).cidr)
            seen.append(str(interface.ip))
    assert len(seen) == len(set(seen))


def test_bridge_ports_have_names_that_linux_takes_and_each_their_own(lab: Topology) -> None:
    ports = [port_of(lab, one, nic.network) for one in lab.hosts for nic in one.nics]
    assert len(ports) == len(set(ports))
    # A delay puts a letter behind them.
    assert all(len(port) + 1 <= 15 for port in ports)


def test_a_nat_maps_the_declared_ports_and_no_others(lab: Topology) -> None:
    (nat,) = lab.nats
    stage = read_inventory(LAB).fleet.stages[3]
    assert {mapping.public_port: mapping.port for mapping in nat.mappings} == {
        40022: 22,
        stage.public_dht_port: stage.dht_port,
        stage.public_rpc_port: stage.rpc_port,
    }
    rules = nat_rules(nat)
    assert rules.count("dnat to") == 3
    assert "policy drop" in rules


def test_hosts_behind_one_public_address_share_a_nat() -> None:
    behind = {
        f"r{number}": {
            "ansible_host": "10.1.0.9",
            "ansible_port": 2000 + number,
            "fleet_host": {
                "public_ip": "10.1.0.9",
                "ports": {"ssh": 22},
                "stages": [
                    {
                        "stage": number,
                        "public_dht_port": 3000 + number,
                        "public_rpc_port": 4000 + number,
                    }
                ],
            },
        }
        for number in range(2)
    }
    found = topology(inventory(**behind))
    (nat,) = found.nats
    assert len(nat.mappings) == 6
    assert len({mapping.address for mapping in nat.mappings}) == 2
    assert {nic.network for one in found.hosts for nic in one.nics} == {nat.inside}


def test_a_public_address_without_mapped_ports_is_the_hosts_own() -> None:
    public = host(5, 0)
    public["fleet_host"] |= {"public_ip": "10.1.0.5"}
    found = topology(inventory(a=public))
    assert found.nats == ()
    assert [nic.network for nic in found.hosts[0].nics] == [OUTSIDE, "fast"]


def test_a_host_of_another_service_gets_one_card() -> None:
    found = topology(inventory(a=host(5, 0), storage={"ansible_host": "10.1.0.7"}))
    assert [nic.address for nic in found.host("storage").nics] == ["10.1.0.7/24"]


def test_networkd_is_told_every_card(lab: Topology) -> None:
    files = networkd_files(lab, lab.host("gpu-0"))
    assert list(files) == ["eth0", "data0"]
    assert "MTUBytes=9000" in files["data0"]
    assert "Gateway=" in files["eth0"]
    assert "Gateway=" not in files["data0"]


def test_lost_packets_are_lost_in_both_directions() -> None:
    rules = loss_rules("host0card0", 30)
    assert rules.count("< 30 drop") == 2
    assert "hook ingress" in rules
    assert "hook egress" in rules


def test_a_topology_survives_being_kept_in_a_file(lab: Topology, tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    path.write_text(lab.model_dump_json())
    assert Topology.model_validate_json(path.read_text()) == lab
    assert json.loads(path.read_text())["name"] == "lab"


@pytest.mark.parametrize(
    ("hosts", "advice"),
    [
        ({"a": host(5, 0, ansible_host="a.example")}, "needs an IPv4 address as ansible_host"),
        ({"a": host(5, 0, ansible_host="10.9.0.5")}, "10.9.0.5: it is not in 10.1.0.0/24"),
        ({"a": host(5, 0, ansible_user="me")}, "hosts of a lab have the accounts root and admin"),
        ({"a": host(5, 0), "b": host(5, 1)}, "10.1.0.5 belongs to host a and to host b"),
        ({"operator": host(5, 0)}, "a part of its own that is called 'operator'"),
        ({"a": host(254, 0)}, "10.1.0.254 belongs to the lab's operator and to host a"),
    ],
)
def test_what_the_lab_cannot_build_is_refused(hosts: dict[str, Any], advice: str) -> None:
    with pytest.raises(SpecError, match=advice):
        topology(inventory(**hosts))


def test_an_unknown_host_is_named_with_those_there_are(lab: Topology) -> None:
    with pytest.raises(SpecError, match=r"no host 'gpu-9'\n.*gpu-0, gpu-1"):
        lab.host("gpu-9")
