import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.spec.fleet import Fleet

MODEL = {"path": "/m", "total_blocks": 30, "splits": [8, 16, 24]}


def fleet(hosts: dict[str, Any], **site: object) -> Fleet:
    data = {"name": "lab", "model": MODEL, "hosts": hosts} | site
    return Fleet.model_validate_json(json.dumps(data))


def test_every_stage_has_a_place_a_span_and_ports() -> None:
    found = fleet(
        {
            "a": {"stages": [0, {"stage": 2, "dht_port": 9004}]},
            "b": {"stages": [1, {"stage": 3, "device": "cuda:1"}]},
        },
        serving={"device": "cpu"},
    ).stages
    assert [(stage.stage, stage.host, str(stage.span)) for stage in found] == [
        (0, "a", "[0, 8)"),
        (1, "b", "[8, 16)"),
        (2, "a", "[16, 24)"),
        (3, "b", "[24, 30)"),
    ]
    assert [(stage.dht_port, stage.rpc_port) for stage in found] == [
        (8008, 8009),
        (8002, 8003),
        (9004, 8005),
        (8006, 8007),
    ]
    assert [stage.device for stage in found] == ["cpu", "cpu", "cpu", "cuda:1"]


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"a": {"stages": [0, 1, 2]}}, "stage 3 is on no host"),
        (
            {"a": {"stages": [0, 1, 2, 3]}, "b": {"stages": [3]}},
            "stage 3 is on 2 hosts: a, b",
        ),
        ({"a": {"stages": [0, 1, 2, 3, 4]}}, "host a has stage 4, but"),
        (
            {"a": {"stages": [0, 1, {"stage": 2, "rpc_port": 8002}, 3]}},
            "host a: port 8002 is taken by stage 1 dht and by stage 2 rpc",
        ),
        (
            {"a": {"stages": [0, 1, 2, 3], "ports": {"gateway": 8003}}},
            "port 8003 is taken by gateway and by stage 1 rpc",
        ),
        (
            {"a": {"stages": [0, 1, 2, {"stage": 3, "dht_port": 22}]}},
            "port 22 is taken by ssh and by stage 3 dht",
        ),
        (
            {"a": {"stages": [0, 1, 2, {"stage": 3, "public_dht_port": 40000}]}},
            "host a maps public ports but has no public_ip",
        ),
        (
            {
                "a": {"stages": [0, 1], "public_ip": "203.0.113.1"},
                "b": {
                    "stages": [2, {"stage": 3, "public_dht_port": 8002}],
                    "public_ip": "203.0.113.1",
                },
            },
            "public address 203.0.113.1: port 8002 is mapped to stage 1 dht and to stage 3 dht",
        ),
        ({"a": {"stages": [0, 1, 2, {"stage": 3, "dht_port": 70000}]}}, "65535"),
        ({"a": {"stages": [0, 1, 2, {"stage": 3, "dht_prot": 7000}]}}, "dht_prot"),
    ],
)
def test_a_fleet_that_cannot_be_built_is_refused(hosts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        fleet(hosts)
    assert said in str(found.value)


def test_two_networks_cannot_have_one_name() -> None:
    lan = {"name": "lan", "cidr": "10.0.0.0/24"}
    with pytest.raises(ValidationError, match="2 networks are called 'lan'"):
        fleet({"a": {"stages": [0, 1, 2, 3]}}, networks=[lan, lan])


@pytest.mark.parametrize("path", ["~/m", "/home/ada/m", "/root/m"])
def test_a_systems_services_do_not_look_into_homes(path: str) -> None:
    hosts = {"a": {"stages": [0, 1, 2, 3]}}
    with pytest.raises(ValidationError, match=r"model\.path .* is in a home directory"):
        fleet(hosts, model=MODEL | {"path": path})
    found = fleet(hosts, model=MODEL | {"path": path}, install={"scope": "user"})
    assert found.model.path == path


@pytest.mark.parametrize("root", ["relative", "/with space", "/a/%(x)s", "~", "/"])
def test_a_root_has_a_name_that_every_file_can_carry(root: str) -> None:
    with pytest.raises(ValidationError, match=r"install\.root"):
        fleet({"a": {"stages": [0, 1, 2, 3]}}, install={"root": root, "scope": "user"})


@given(st.permutations(range(4)), st.integers(1, 4))
def test_how_stages_are_spread_over_hosts_changes_nothing_but_their_host(
    order: list[int], count: int
) -> None:
    hosts = {f"h{index}": {"stages": order[index::count]} for index in range(count)}
    found = fleet(hosts).stages
    assert [stage.stage for stage in found] == [0, 1, 2, 3]
    assert all(stage.stage in hosts[stage.host]["stages"] for stage in found)
