"""Exporters and who takes metrics from them: flows, targets, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of
from runtime.spec.openings import openings
from runtime.spec.plan import plans
from tests.support.inventories import four_hosts

HOSTS = tuple(four_hosts())
METRICS = ("node_exporter", "gpu_exporter")


def found(**monitoring: Any) -> dict[str, set[str]]:
    """Return by host and service who gets in, of the flows of metrics."""
    fleet = fleet_of(four_hosts(monitoring=monitoring))
    return {
        f"{flow.host} {flow.service}": {*flow.hosts, *flow.networks}
        for flow in flows(fleet)
        if flow.service in METRICS
    }


def test_nothing_listens_and_nothing_opens_unless_it_is_said() -> None:
    fleet = fleet_of(four_hosts())
    assert not [flow for flow in flows(fleet) if flow.service in METRICS]
    assert {plan.exporters for plan in plans(fleet, {}).values()} == {()}
    assert {plan.scrape_targets for plan in plans(fleet, {}).values()} == {""}


@given(
    hosts=st.lists(st.sampled_from(HOSTS), unique=True),
    networks=st.lists(st.sampled_from(["192.0.2.7/32", "10.1.0.0/16"]), unique=True),
)
def test_only_who_is_declared_gets_in(hosts: list[str], networks: list[str]) -> None:
    if not hosts and not networks:
        return
    told = found(hosts=hosts, networks=networks)
    for host in HOSTS:
        others = {*hosts, *networks} - {host}
        assert told.get(f"{host} node_exporter", set()) == others


def test_gpus_have_metrics_where_servers_use_them_or_it_is_said() -> None:
    hosts = four_hosts(monitoring={"hosts": ["gpu-0"]})
    hosts["gpu-2"]["fleet_host"]["stages"] = [{"stage": 2, "device": "cuda:0"}]
    told = [flow.host for flow in flows(fleet_of(hosts)) if flow.service == "gpu_exporter"]
    assert told == ["gpu-2"]
    said = found(hosts=["gpu-0"], gpus=["gpu-1"])
    assert [key for key in said if "gpu_exporter" in key] == ["gpu-1 gpu_exporter"]


def test_targets_are_those_of_the_flows_as_the_prometheus_host_reaches_them() -> None:
    hosts = four_hosts(monitoring={"hosts": ["gpu-0"]})
    hosts["gpu-1"]["fleet_host"]["ports"] = {"node_exporter": 9101}
    fleet = fleet_of(hosts)
    plan = plans(fleet, {})
    groups = json.loads(plan["gpu-0"].scrape_targets)
    targets = {group["labels"]["host"]: group["targets"] for group in groups}
    assert targets["gpu-1"] == ["198.51.100.2:9101"]
    assert targets.keys() == set(HOSTS)
    assert plan["gpu-1"].scrape_targets == ""
    assert plan["gpu-1"].exporters[0].environment == "ARGS=--web.listen-address=:9101"
    opened = [each for each in openings(fleet)["gpu-1"] if each.purpose == "node_exporter"]
    assert [(each.port, each.source) for each in opened] == [(9101, "198.51.100.1/32")]


@pytest.mark.parametrize(
    ("monitoring", "problem"),
    [
        ({}, "fleet.monitoring lets nobody take metrics"),
        ({"hosts": ["gpu-9"]}, "'gpu-9' is no host of the fleet; did you mean 'gpu-"),
        ({"hosts": ["gpu-0"], "gpus": ["tpu"]}, "monitoring.gpus: 'tpu' is no host"),
        ({"networks": ["0.0.0.0/0"]}, "open to the world, and metrics never are"),
    ],
)
def test_what_cannot_be_meant_is_refused(monitoring: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        found(**monitoring)
    assert problem in str(error.value)


def test_without_root_there_are_no_exporters() -> None:
    site = {"install": {"scope": "user"}, "monitoring": {"hosts": ["gpu-0"]}}
    with pytest.raises(SpecError, match="only root can install"):
        fleet_of(four_hosts(**site))


def test_a_port_that_two_services_share_is_refused() -> None:
    hosts = four_hosts(monitoring={"hosts": ["gpu-0"]})
    hosts["gpu-1"]["fleet_host"]["ports"] = {"node_exporter": 8002}
    with pytest.raises(SpecError, match="port 8002 is taken by"):
        fleet_of(hosts)


def test_access_points_to_where_metrics_are_said() -> None:
    row = {"service": "node_exporter", "networks": ["192.0.2.0/24"]}
    with pytest.raises(SpecError, match=r"is said in fleet\.monitoring"):
        fleet_of(four_hosts(access=[row]))
