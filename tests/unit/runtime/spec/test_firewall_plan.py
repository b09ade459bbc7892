"""Which hosts are guarded, who always gets in, and what each run has to allow."""

import copy
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.spec.errors import SpecError
from runtime.spec.firewall import FirewallPlan
from runtime.spec.inventory import fleet_of
from runtime.spec.plan import plans
from runtime.spec.services import SSH
from tests.support.inventories import four_hosts

_NETWORKS: Final = ("192.0.2.0/24", "10.0.0.0/8", "198.51.100.7/32", "2001:db8::/48", "0.0.0.0/0")


def four(**site: Any) -> dict[str, FirewallPlan]:
    return {name: one.firewall for name, one in plans(fleet_of(four_hosts(**site)), {}).items()}


def test_nobody_is_locked_out() -> None:
    with pytest.raises(SpecError, match=r"nobody could log in any more: fleet\.operators names no"):
        four(operators=[])
    assert four(operators=[], firewall={"manage": False})["gpu-0"].tool == "none"
    ssh = [{"service": "ssh", "networks": ["203.0.113.9/32"]}]
    assert four(operators=[], access=ssh)["gpu-0"].tool == "auto"


@settings(max_examples=20)  # each of them plans a fleet
@given(st.lists(st.sampled_from(_NETWORKS), max_size=3), st.integers(1, 65535))
def test_every_host_that_is_guarded_lets_an_operator_in(cidrs: list[str], port: int) -> None:
    hosts = copy.deepcopy(four_hosts(operators=cidrs))
    hosts["gpu-2"]["ansible_port"] = port
    try:
        found = plans(fleet_of(hosts), {})
    except SpecError:
        return
    for name, one in found.items():
        ways = [opening for opening in one.firewall.openings if opening.purpose == SSH.name]
        assert ways
        assert {way.port for way in ways} == {port if name == "gpu-2" else SSH.port}


def test_hosts_that_are_left_to_others_say_why() -> None:
    user = four(install={"scope": "user"}, model={**four_hosts()["gpu-0"]["fleet"]["model"]})
    assert not user["gpu-0"].reachable
    assert "there is no root" in user["gpu-0"].unguarded
    assert four(firewall={"manage": False})["gpu-0"].unguarded == "fleet.firewall.manage is false"
    hosts = four_hosts()
    hosts["gpu-1"]["fleet_host"]["firewall"] = "none"
    found = plans(fleet_of(hosts), {})
    assert found["gpu-1"].firewall.unguarded == "fleet_host.firewall is none"
    assert found["gpu-1"].firewall.openings == ()
    assert found["gpu-0"].firewall.unguarded == ""


def test_firewalls_that_nobody_can_manage_are_refused() -> None:
    with pytest.raises(SpecError, match=r"install\.scope is user: only root"):
        four(install={"scope": "user"}, firewall={"manage": True})
    hosts = four_hosts(firewall={"manage": False})
    hosts["gpu-1"]["fleet_host"]["firewall"] = "ufw"
    with pytest.raises(SpecError, match="host gpu-1 asks for the firewall ufw, but stagefleet"):
        fleet_of(hosts)


def test_doors_to_the_world_are_counted() -> None:
    public = [{"service": "rpc", "hosts": ["gpu-1"], "networks": ["0.0.0.0/0"], "public": True}]
    found = four(access=public)
    assert found["gpu-0"].public == ()
    (door,) = found["gpu-1"].public
    assert door.startswith("host gpu-1: rpc of stage 1 (")
