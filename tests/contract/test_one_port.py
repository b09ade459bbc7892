"""A port that is changed in one place of an inventory is changed everywhere."""

import json
from typing import Any

import pytest

from cloud.rules import wanted
from runtime.cli import reference
from runtime.cli.project import ROOT
from runtime.spec.fleet import Fleet
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of
from runtime.spec.openings import openings
from runtime.spec.plan import Peer, plans
from runtime.spec.probes import probes
from runtime.spec.services import CATALOGUE, RPC
from tests.support.clouds import CLOUDS, cloud_hosts

OLD, NEW = 8003, 9103
PEERS = {
    f"stage-{stage}": Peer(peer_id=f"Qm{stage}", certificate_sha256=str(stage))
    for stage in range(4)
}


def everywhere(fleet: Fleet, cloud: str) -> dict[str, set[int]]:
    """Return the ports that each place names for the data plane of stage 1, which gpu-1 runs."""
    configs = {
        stage.stage: json.loads(stage.config_text)
        for plan in plans(fleet, PEERS).values()
        for stage in plan.stages
    }
    ways = {name: (host.public_ip or "", 22) for name, host in fleet.hosts.items()}
    return {
        "its configuration": {configs[1]["rpc_port"]},
        "its peers' configurations": {
            peer["rpc_port"]
            for config in configs.values()
            for peer in config.get("peers", ())
            if peer["stage"] == 1
        },
        "who may reach it": {
            flow.port for flow in flows(fleet) if flow.purpose == "rpc of stage 1"
        },
        "its host's firewall": {
            opening.port
            for opening in openings(fleet)["gpu-1"]
            if opening.purpose == "rpc of stage 1"
        },
        "its cloud's rules": {
            rule.first
            for rule in wanted(fleet, cloud).groups["gpu-1"].rules.values()
            if rule.purpose == "rpc of stage 1"
        },
        "what dials it for the check": {
            probe.dialled for probe in probes(fleet, ways) if probe.purpose == "rpc of stage 1"
        },
    }


@pytest.mark.parametrize("cloud", sorted(CLOUDS))
def test_a_port_of_one_host_is_written_once(cloud: str) -> None:
    hosts = cloud_hosts(cloud)
    assert set(map(frozenset, everywhere(fleet_of(hosts), cloud).values())) == {frozenset({OLD})}
    hosts["gpu-1"]["fleet_host"]["stages"] = [{"stage": 1, "rpc_port": NEW}]
    assert set(map(frozenset, everywhere(fleet_of(hosts), cloud).values())) == {frozenset({NEW})}


def test_a_default_of_the_catalogue_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "reference" / "ports.md"
    assert f"| rpc | {OLD}/tcp |" in reference.pages()[page]
    moved: tuple[Any, ...] = tuple(
        service.model_copy(update={"port": NEW}) if service is RPC else service
        for service in CATALOGUE
    )
    monkeypatch.setattr(reference, "CATALOGUE", moved)
    assert f"| rpc | {NEW}/tcp |" in reference.pages()[page]
    assert f"| rpc | {OLD}/tcp |" not in reference.pages()[page]
