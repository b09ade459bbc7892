from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.changes import text
from cloud.names import ALL
from cloud.rules import Source, clouds_of, wanted
from runtime.spec.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of
from runtime.spec.sources import source_of
from tests.support.clouds import cloud_fleet, cloud_hosts
from tests.support.instances import WANTED, rented_hosts
from tests.support.inventories import four_hosts


def test_hosts_that_share_a_network_of_the_cloud_are_let_in_by_their_groups() -> None:
    assert text(wanted(cloud_fleet(), "aws"))[4:] == [
        "gpu-1: tcp 22 from 192.0.2.0/24  # ssh",
        "gpu-1: tcp 8002 from every host  # dht of stage 1",
        "gpu-1: tcp 8002 from 203.0.113.4/32  # dht of stage 1",
        "gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1",
        "gpu-2: tcp 22 from 192.0.2.0/24  # ssh",
        "gpu-2: tcp 8004 from every host  # dht of stage 2",
        "gpu-2: tcp 8004 from 203.0.113.4/32  # dht of stage 2",
        "gpu-2: tcp 8005 from every host  # rpc of stage 2",
    ]


def test_a_fleet_within_one_network_of_a_cloud_opens_nothing_but_its_operators_way() -> None:
    state = wanted(cloud_fleet(inside=4), "aws")
    networks = {
        (rule.purpose, rule.source.name)
        for group in state.groups.values()
        for rule in group.rules.values()
        if rule.source.kind == "network"
    }
    assert networks == {("ssh", "192.0.2.0/24")}
    assert state.members == {name: {name, ALL} for name in ("gpu-0", "gpu-1", "gpu-2", "gpu-3")}
    assert state.groups[ALL].rules == {}


def test_members_that_meet_at_public_addresses_are_let_in_by_these() -> None:
    # A group stands for private addresses, which nobody dials where no network is declared.
    state = wanted(cloud_fleet(inside=4, networks=[]), "aws")
    sources = {rule.source for group in state.groups.values() for rule in group.rules.values()}
    assert {source.kind for source in sources} == {"network"}
    assert Source(kind="network", name="203.0.113.2/32") in sources


def test_each_cloud_has_the_rules_of_its_own_hosts() -> None:
    hosts = cloud_hosts()
    hosts["gpu-2"]["fleet_host"]["cloud"] = "gcp"
    fleet = fleet_of(hosts)
    assert set(wanted(fleet, "aws").groups) == {"gpu-0", "gpu-1", ALL}
    assert set(wanted(fleet, "gcp").groups) == {"gpu-2", ALL}
    assert wanted(fleet, "azure").groups == {}
    # They share a network, so its private addresses are what the others see.
    assert "gpu-2: tcp 8005 from 10.0.0.2/32  # rpc of stage 2" in text(wanted(fleet, "gcp"))
    assert clouds_of(fleet) == ("aws", "azure", "gcp")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"addresses": ["outside.example"], "public_ip": None},
            "known by its name outside.example",
        ),
        ({"public_ip": "10.9.9.9"}, "known by the private address 10.9.9.9 only"),
        (
            {"addresses": ["192.168.1.4"], "public_ip": None},
            "known by the private address 192.168.1.4 only",
        ),
    ],
)
def test_a_host_that_comes_from_nowhere_is_refused(change: dict[str, Any], reason: str) -> None:
    hosts = cloud_hosts()
    hosts["gpu-3"]["fleet_host"] |= change
    with pytest.raises(SpecError, match=reason):
        wanted(fleet_of(hosts), "aws")


def test_a_cloud_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match="no host of this fleet is in a cloud"):
        clouds_of(fleet_of(four_hosts()))
    with pytest.raises(SpecError, match="there is no cloud 'oracle': aws, azure, gcp"):
        clouds_of(cloud_fleet(), "oracle")


def test_one_place_is_described_once() -> None:
    hosts = cloud_hosts()
    clouds = hosts["gpu-0"]["fleet"]["clouds"]
    for host in hosts.values():
        host["fleet"]["clouds"] = clouds | {"again": clouds["aws"] | {"endpoint": "http://x:1"}}
    with pytest.raises(SpecError, match=r"fleet\.clouds aws and again are the same place"):
        fleet_of(hosts)


@given(
    st.lists(st.sampled_from(("aws", "gcp", None)), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_every_source_of_a_flow_is_let_in_and_nobody_else(
    clouds: list[str | None], networked: list[bool]
) -> None:
    hosts = cloud_hosts(inside=0)
    for number, (cloud, in_network) in enumerate(zip(clouds, networked, strict=True)):
        own = hosts[f"gpu-{number}"]["fleet_host"]
        own["cloud"] = cloud
        if in_network:
            own["addresses"] = [f"10.0.0.{number + 1}"]
    fleet = fleet_of(hosts)
    for cloud in ("aws", "gcp"):
        state = wanted(fleet, cloud)
        inside = set(state.members)
        for flow in flows(fleet):
            if flow.host not in inside:
                continue
            rules = [
                rule for rule in state.groups[flow.host].rules.values() if rule.first == flow.port
            ]
            let_in: set[str] = set()
            for rule in rules:
                if rule.source.kind == "network":
                    let_in.add(rule.source.name)
                elif rule.source.name == ALL:
                    let_in |= {source_of(fleet, host, flow.host) for host in inside - {flow.host}}
                else:
                    let_in.add(source_of(fleet, rule.source.name, flow.host))
            asked = {source_of(fleet, host, flow.host) for host in flow.hosts}
            assert let_in == asked | set(flow.networks)


def test_rules_inside_a_cloud_are_the_same_before_and_after_its_instances_are_made() -> None:
    hosts = rented_hosts("aws", WANTED.model_dump(exclude_none=True), inside=4)
    before = wanted(fleet_of(hosts), "aws")
    assert before.notices == ()
    for number, host in enumerate(hosts.values()):
        address = {"addresses": [f"10.9.0.{number}"], "public_ip": f"203.0.113.{number}"}
        host["fleet_host_cloud"] = {"cloud": "aws"} | address
        after = wanted(fleet_of(hosts), "aws")
        assert after.groups == before.groups
    assert any(
        rule.source.kind == "group"
        for group in before.groups.values()
        for rule in group.rules.values()
    )


def test_shares_are_opened_to_their_readers_only() -> None:
    share = {"name": "models", "host": "gpu-0", "path": "/srv/models", "readers": ["gpu-2"]}
    fleet = cloud_fleet(shares=[share])
    found = {line for line in text(wanted(fleet, "aws")) if "of shares" in line}
    assert found == {"gpu-0: tcp 2049 from host gpu-2  # nfs of shares"}
