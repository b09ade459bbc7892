"""Windows machines: what is read of them, what is refused before anybody connects."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.errors import SpecError
from runtime.spec.inventory import fleet_of, windows_of
from runtime.spec.openings import openings
from runtime.spec.windows import Adapter, WindowsPlan, windows_plan

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicKeyOfSomebody operator@desk"
PC = "desk-right-windows"


def site(windows: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return an inventory of two desks, of which the right one has Windows with a Linux in it."""
    fleet = {
        "name": "dual-pc",
        "model": {"path": "/srv/models/m", "total_blocks": 4, "splits": [2]},
        "operators": ["192.168.1.0/24"],
        "networks": [
            {"name": "cable", "cidr": "10.99.0.0/30", "private": True},
            {"name": "office", "cidr": "192.168.1.0/24"},
        ],
    }
    return {
        "desk-left": {
            "fleet": fleet,
            "ansible_host": "192.168.1.31",
            "fleet_host": {"addresses": ["10.99.0.1", "192.168.1.31"], "stages": [0]},
        },
        "desk-right": {
            "fleet": fleet,
            "ansible_host": "192.168.1.32",
            "ansible_port": 2222,
            "fleet_host": {"addresses": ["10.99.0.2", "192.168.1.32"], "stages": [1]},
        },
        PC: {
            "fleet": fleet,
            "ansible_host": "192.168.1.32",
            "fleet_windows": {**wanted(), **(windows or {})},
        },
    }


def wanted() -> dict[str, Any]:
    return {
        "adapter": {"name": "Ethernet 2", "address": "10.99.0.2/30"},
        "shares": [{"drive": "M", "path": r"\\10.99.0.1\models", "user": "reader"}],
        "linux": {"host": "desk-right", "public_key": KEY},
    }


def plan(variables: dict[str, dict[str, Any]]) -> WindowsPlan:
    fleet = fleet_of(variables)
    (machine,) = windows_of(variables, fleet).values()
    return windows_plan(fleet.name, PC, machine, fleet.hosts, openings(fleet), "192.168.1.32")


def test_a_windows_machine_is_no_host_of_the_fleet() -> None:
    fleet = fleet_of(site())
    assert set(fleet.hosts) == {"desk-left", "desk-right"}


def test_its_firewall_lets_in_what_its_linux_needs() -> None:
    variables = site()
    found = plan(variables)
    opened = openings(fleet_of(variables))["desk-right"]
    assert {(rule.port, source) for rule in found.rules for source in rule.sources} == {
        (opening.port, opening.source) for opening in opened
    }
    assert 2222 in {rule.port for rule in found.rules}
    assert found.linux_port == 2222
    names = [rule.name for rule in found.rules]
    assert len(set(names)) == len(names)
    assert all(name.startswith("stagefleet-dual-pc:") for name in names)


def test_a_port_of_its_linux_is_said_once() -> None:
    variables = site()
    variables["desk-right"]["fleet_host"]["stages"] = [{"stage": 1, "rpc_port": 9103}]
    assert 9103 in {rule.port for rule in plan(variables).rules}


def test_jumbo_packets_are_said_as_drivers_count_them() -> None:
    found = plan(site())
    assert found.properties["*JumboPacket"] == 9014
    assert found.peers == ("10.99.0.0/30",)
    small = Adapter(name="Ethernet", address="10.0.0.1/24", mtu=1500)
    assert small.properties["*JumboPacket"] == 1514


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"adapter": {"name": "Ethernet 2", "address": "10.99.0.2"}}, "has no network"),
        ({"adapter": {"name": "Ethernet 2", "address": "10.99.0.3/30"}}, "no address of a machine"),
        ({"adapter": {"name": "Ethernet 2", "address": "10.99.0.400/30"}}, "no address"),
        ({"adapter": {"name": "a'; Stop-Computer", "address": "10.99.0.2/30"}}, "adapter.name"),
        ({"adapter": {"name": "E", "address": "10.99.0.2/30", "mtu": 16000}}, "adapter.mtu"),
        ({"adapter": {"name": "E", "address": "10.99.0.2/30", "mut": 9000}}, "did you mean 'mtu'?"),
        (
            {"adapter": {"name": "Ethernet", "address": "192.168.1.32/24"}},
            "a change would cut that connection",
        ),
        ({"shares": [{"drive": "C", "path": r"\\a\b", "user": "u"}]}, "shares.0.drive"),
        ({"shares": [{"drive": "M", "path": "/srv/models", "user": "u"}]}, "shares.0.path"),
        (
            {"shares": [{"drive": "M", "path": rf"\\a\{name}", "user": "u"} for name in "bc"]},
            "drive M is named twice",
        ),
        ({"linux": {"host": "desk-rihgt", "public_key": KEY}}, "'desk-rihgt', which is no host"),
        ({"linux": {"host": "desk-left", "public_key": KEY}}, "sshd needs another port"),
        ({"linux": {"host": "desk-right", "public_key": "secret"}}, "linux.public_key"),
        (
            {"linux": {"host": "desk-right", "public_key": KEY, "distribution": "Arch"}},
            "linux.distribution",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_connection(
    change: dict[str, Any], named: str
) -> None:
    with pytest.raises(SpecError) as refused:
        fleet_of(site(change))
    assert named in str(refused.value)
    assert PC in str(refused.value) or "desk-left" in str(refused.value)


def test_a_machine_with_a_stage_of_its_own_is_refused() -> None:
    variables = site()
    variables[PC]["fleet_host"] = {"addresses": ["192.168.1.33"]}
    with pytest.raises(SpecError, match="no server runs on Windows"):
        fleet_of(variables)


def test_a_typo_in_the_variable_is_named() -> None:
    variables = site()
    variables[PC]["fleet_window"] = variables[PC].pop("fleet_windows")
    with pytest.raises(SpecError, match=r"unknown variable 'fleet_window'; .* 'fleet_windows'"):
        fleet_of(variables)


@given(st.integers(0, 2**32 - 1), st.integers(8, 31))
def test_an_address_is_one_that_a_machine_can_have(number: int, length: int) -> None:
    address = f"{ipaddress.IPv4Address(number)}/{length}"
    network = ipaddress.IPv4Interface(address).network
    edges = {network.network_address, network.broadcast_address} if length < 31 else set()
    try:
        found = Adapter(name="Ethernet", address=address)
    except ValueError:
        assert ipaddress.IPv4Address(number) in edges
    else:
        assert found.address == address
        assert ipaddress.IPv4Address(number) not in edges
