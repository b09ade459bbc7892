import json
from typing import Any

import pytest

from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.links import Link, dht_port, link, multiaddr, rpc_port

LAN = {"name": "lan", "cidr": "10.0.0.0/24"}
CABLE = {"name": "cable", "cidr": "192.168.9.0/30", "private": True}
NAT = {
    "public_ip": "203.0.113.7",
    "stages": [{"stage": 1, "public_dht_port": 40002, "public_rpc_port": 40003}],
}


def fleet(zero: dict[str, Any], one: dict[str, Any], networks: list[Any]) -> Fleet:
    hosts = {"zero": {"stages": [0], **zero}, "one": {"stages": [1], **one}}
    model = {"path": "/m", "total_blocks": 4, "splits": [2]}
    return Fleet.model_validate_json(
        json.dumps({"name": "lab", "model": model, "hosts": hosts, "networks": networks})
    )


def test_the_nearest_shared_network_wins_in_the_inventorys_order() -> None:
    found = fleet(
        {"addresses": ["10.0.0.1", "192.168.9.1"]},
        {"addresses": ["10.0.0.2", "192.168.9.2"], **NAT},
        [CABLE, LAN],
    )
    assert link(found, "zero", "one") == Link(address="192.168.9.2", via="cable", private=True)
    reordered = found.model_copy(update={"networks": found.networks[::-1]})
    assert link(reordered, "zero", "one") == Link(address="10.0.0.2", via="lan")


def test_hosts_without_a_shared_network_use_the_mapped_public_ports() -> None:
    found = fleet({"addresses": ["192.0.2.1"]}, {"addresses": ["10.0.0.2"], **NAT}, [LAN])
    way = link(found, "zero", "one")
    assert way == Link(address="203.0.113.7", via="public", mapped=True)
    assert (dht_port(way, found.stages[1]), rpc_port(way, found.stages[1])) == (40002, 40003)
    back = link(found, "one", "zero")
    assert back == Link(address="192.0.2.1", via="direct")
    assert rpc_port(back, found.stages[0]) == 8009


def test_a_public_address_without_mapping_keeps_the_ports() -> None:
    found = fleet(
        {"addresses": ["192.0.2.1"]}, {"addresses": ["10.0.0.2"], "public_ip": "203.0.113.7"}, [LAN]
    )
    way = link(found, "zero", "one")
    assert (dht_port(way, found.stages[1]), rpc_port(way, found.stages[1])) == (8002, 8003)


def test_hosts_that_cannot_reach_each_other_are_named_with_the_mend() -> None:
    found = fleet({"addresses": ["192.0.2.1"]}, {"addresses": ["10.0.0.2"]}, [LAN])
    with pytest.raises(SpecError, match="host zero cannot reach host one"):
        link(found, "zero", "one")


def test_a_host_reaches_itself_where_it_listens() -> None:
    found = fleet({"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2", "192.0.2.2"]}, [])
    assert link(found, "zero", "zero").address == "10.0.0.1"
    assert link(found, "one", "one").address == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.1", "/ip4/10.0.0.1/tcp/8002/p2p/Qm1"),
        ("2001:db8::1", "/ip6/2001:db8::1/tcp/8002/p2p/Qm1"),
        ("gpu.example", "/dns4/gpu.example/tcp/8002/p2p/Qm1"),
    ],
)
def test_multiaddrs_say_the_kind_of_address(address: str, said: str) -> None:
    assert multiaddr(address, 8002, "Qm1") == said
