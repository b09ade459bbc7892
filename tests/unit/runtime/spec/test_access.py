import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.access import is_open_to_the_world, is_private
from runtime.spec.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of, notices
from tests.support.inventories import four_hosts

HALVES = ["0.0.0.0/1", "128.0.0.0/1"]


def row(service: str, networks: list[str], **more: Any) -> dict[str, Any]:
    return {"service": service, "networks": networks} | more


@pytest.mark.parametrize(
    ("networks", "world"),
    [
        (["0.0.0.0/0"], True),
        (["::/0"], True),
        (HALVES, True),
        (["203.0.0.0/15"], True),
        (["203.0.0.0/16"], False),
        (["203.0.0.0/16", "203.1.0.0/16"], True),
        (["203.0.0.0/16", "203.0.0.0/17"], False),
        (["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"], False),
        (["2001:db8::/32"], False),
        (["2001:db8::/31"], True),
        ([], False),
    ],
)
def test_what_is_open_to_the_world(networks: list[str], world: bool) -> None:
    assert is_open_to_the_world(networks) is world


@given(st.integers(1, 8))
def test_cutting_the_world_into_pieces_hides_nothing(bits: int) -> None:
    pieces = ipaddress.ip_network("0.0.0.0/0").subnets(bits)
    assert is_open_to_the_world([str(piece) for piece in pieces])


def test_private_networks_are_not_the_world() -> None:
    assert is_private("172.16.0.0/12")
    assert is_private("10.1.2.3/32")
    assert not is_private("172.0.0.0/8")
    assert not is_private("0.0.0.0/0")


def test_more_networks_may_reach_a_service_where_a_row_says_so() -> None:
    fleet = fleet_of(
        four_hosts(
            access=[
                row("dht", ["198.51.100.99/32"]),
                row("rpc", ["203.0.113.0/24"], hosts=["gpu-1"]),
                row("ssh", ["203.0.113.9/32"], hosts=["gpu-1"]),
            ]
        )
    )
    found = {(flow.host, flow.service): flow for flow in flows(fleet)}
    assert found["gpu-3", "dht"].networks == ("198.51.100.99/32",)
    assert found["gpu-3", "dht"].hosts == ("gpu-0", "gpu-1", "gpu-2")
    assert found["gpu-1", "rpc"].networks == ("203.0.113.0/24",)
    assert found["gpu-2", "rpc"].networks == ()
    assert found["gpu-1", "ssh"].networks == ("192.0.2.0/24", "203.0.113.9/32")
    assert not any(flow.public for flow in found.values())


@pytest.mark.parametrize(
    ("site", "problem"),
    [
        (
            {"access": [row("dth", ["192.0.2.0/24"])]},
            "there is no such service; choose one of dht, rpc, smb, ssh",
        ),
        (
            {"access": [row("gateway", ["192.0.2.0/24"])]},
            "gateway listens on loopback only; people reach it through SSH",
        ),
        (
            {"access": [row("dht", ["192.0.2.0/24"], hosts=["gpu-11"])]},
            "'gpu-11' is no host of the fleet; did you mean 'gpu-1'?",
        ),
        (
            {"access": [row("dht", HALVES)]},
            "is open to the world; if that is meant, say so with public: true",
        ),
        (
            {"access": [row("dht", HALVES[:1]), row("dht", HALVES[1:])]},
            "access to dht: 0.0.0.0/1, 128.0.0.0/1 is open to the world",
        ),
        (
            {"access": [row("ssh", ["0.0.0.0/0"], public=True)]},
            "and ssh never is: machines are controlled by it",
        ),
        ({"operators": ["0.0.0.0/0"]}, "operators: 0.0.0.0/0 is open to the world, and ssh never"),
        ({"operators": ["192.0.2.0/33"]}, "is not a network in CIDR form"),
    ],
)
def test_doors_that_nobody_should_open_are_refused(site: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as found:
        fleet_of(four_hosts(**site))
    assert problem in str(found.value)


def test_a_door_that_is_meant_is_marked() -> None:
    fleet = fleet_of(four_hosts(access=[row("dht", HALVES, public=True)]))
    assert {flow.service for flow in flows(fleet) if flow.public} == {"dht"}


def test_host_bits_are_dropped_and_that_is_said() -> None:
    hosts = four_hosts(
        operators=["198.51.100.7/24", "192.0.2.1"], access=[row("dht", ["203.0.113.0/24"])]
    )
    fleet = fleet_of(hosts)
    assert fleet.operators == ("198.51.100.0/24", "192.0.2.1/32")
    assert notices(hosts) == (
        "fleet.operators: 198.51.100.7/24 is read as 198.51.100.0/24, the whole network; for one "
        "address write /32 or /128",
    )
