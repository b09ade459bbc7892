"""A fleet of fixed stages becomes servers that choose their blocks, grows by a host, and back.

Four servers on three hosts: one beside the client side, two on one host, one behind NAT.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lab.network import reachable
from runtime.spec.host import BALANCED
from tests.lab.conftest import PROMPT, TOKENS
from tests.support.lab import NAME, LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FIFTH = "gpu-1"
SERVERS: dict[str, list[dict[str, Any]]] = {
    "gpu-0": [{}],
    "gpu-2": [{}, {}],
    # The ports that its provider maps.
    "gpu-3": [
        *({"dht_port": 8006, "rpc_port": 8007, "public_dht_port": 40006, "public_rpc_port": 40007},)
    ],
}


@pytest.fixture(scope="module")
def balanced(deployed: LabFleet) -> Iterator[LabFleet]:
    """The fleet as servers that choose their blocks; fixed stages again behind these tests."""
    with deployed.changed():
        deployed.succeed("destroy", "-e", f"destroy_fleet={NAME}", "--limit", FIFTH)
        del deployed.hosts[FIFTH]
        for host, servers in SERVERS.items():
            deployed.hosts[host]["group_names"] = [BALANCED]
            deployed.hosts[host]["fleet_host"] |= {"servers": servers, "stages": []}
        deployed.hosts["gpu-0"]["fleet_host"]["stages"] = [0]
        del deployed.site["model"]["splits"]
        deployed.site["balance"] = {"num_blocks": 8, "mean_balance_check_period": 10}
        deployed.succeed("site")
        yield deployed
    deployed.succeed("site")
    assert units(deployed, "gpu-0") == {f"stagefleet-{NAME}-stage-0.service"}
    assert deployed.answer(PROMPT, TOKENS)["route"][-1]["stage"] == 3


def units(fleet: LabFleet, host: str) -> set[str]:
    """Return the services of the fleet that a host has."""
    listed = fleet.on(host, "systemctl", "list-unit-files", "--no-legend", f"stagefleet-{NAME}-*")
    # Of another fleet, whose name begins like this one's.
    return {line.split()[0] for line in listed.splitlines()} - {
        f"stagefleet-{NAME}-2-stage-0.service"
    }


def running(fleet: LabFleet) -> dict[tuple[str, str], str]:
    """Return the process of each server, by its host and name."""
    return {
        (stage.host, stage.name): fleet.on(
            stage.host,
            *("systemctl", "show", "--property=MainPID", f"stagefleet-{NAME}-{stage.name}"),
        )
        for stage in fleet.fleet.stages
    }


def journal(fleet: LabFleet, host: str, name: str) -> str:
    return fleet.on(host, "journalctl", "--unit", f"stagefleet-{NAME}-{name}", "--output=cat")


def test_servers_on_real_hosts_serve_every_block(balanced: LabFleet, expected: list[int]) -> None:
    answer = balanced.answer(PROMPT, TOKENS)
    assert answer["token_ids"] == expected
    assert (answer["route"][0]["end"], answer["route"][-1]["end"]) == (0, 30)
    for host, servers in SERVERS.items():
        for number in range(1, len(servers) + 1):
            said = journal(balanced, host, f"server-{number}")
            assert re.search(r"Selected blocks: \[\d", said)
            assert re.search(
                r"Load Balancing server ready, blocks=\[\d.*\], throughput=\d+\.\d\d rps", said
            )


def test_of_fixed_stages_nothing_is_left(balanced: LabFleet) -> None:
    wanted = {"gpu-0": ["stage-0", "server-1"], "gpu-2": ["server-1", "server-2"]}
    for host, names in (wanted | {"gpu-3": ["server-1"]}).items():
        assert units(balanced, host) == {f"stagefleet-{NAME}-{name}.service" for name in names}
        for directory in (f"/etc/stagefleet/{NAME}", f"/var/lib/stagefleet/{NAME}/identity"):
            listed = balanced.on(host, "ls", directory).split()
            assert {name.removesuffix(".json") for name in listed} == set(names)


def test_the_second_run_changes_nothing(balanced: LabFleet) -> None:
    before = running(balanced)
    run = balanced.succeed("site")
    assert {host: run.count(host, "changed") for host in SERVERS} == dict.fromkeys(SERVERS, 0)
    assert running(balanced) == before


def test_a_host_that_is_added_joins_and_nobody_else_is_restarted(
    balanced: LabFleet, expected: list[int]
) -> None:
    before = running(balanced)
    with balanced.changed():
        found = {"group_names": [BALANCED], "ansible_host": "10.77.0.11"}
        template = copy.deepcopy(balanced.hosts["gpu-0"])
        template["fleet_host"] = {"addresses": ["10.78.0.11", "10.77.0.11"], "firewall": "ufw"}
        balanced.hosts[FIFTH] = template | found
        balanced.succeed("site")
        after = running(balanced)
        assert after.keys() - before.keys() == {(FIFTH, "server-1")}
        assert {key: after[key] for key in before} == before
        said = journal(balanced, FIFTH, "server-1")
        assert "Selected blocks: [" in said
        assert "Load Balancing server ready, blocks=[" in said
        # The others know the nearest way to it, and let it in; so does it, and nobody else.
        links = balanced.config(0)["peers"]
        assert "10.78.0.11" in {link["host"] for link in links if link.get("private")}
        assert balanced.connects("gpu-0", "10.78.0.11", 8003)
        assert balanced.connects(FIFTH, "10.78.0.12", 8005)
        assert not reachable(balanced.built().place, "10.77.0.11", 8003)
        assert balanced.answer(PROMPT, TOKENS)["token_ids"] == expected
        balanced.succeed("destroy", "-e", f"destroy_fleet={NAME}", "--limit", FIFTH)
    balanced.succeed("site")
    assert running(balanced) == before
    assert balanced.answer(PROMPT, TOKENS)["token_ids"] == expected
