"""The proof of ports, before anything is deployed: through mapped ports, and of what is wrong."""

import json
from typing import Any

import pytest

from lab import network
from lab.process import run
from tests.support.lab import LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def checked(fleet: LabFleet, *arguments: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Return how `check-ports` ends, and its rows by host and service."""
    asked = fleet.stagefleet("check-ports", "-i", str(fleet.inventory), "--json", *arguments)
    said, problem = asked.communicate(timeout=200)
    assert said, problem
    rows = json.loads(said)["rows"]
    return asked.returncode, {(row["host"], row["purpose"]): row for row in rows}


def tries(row: dict[str, Any], expected: bool) -> dict[str, str]:
    """Return how each source got on that should, or should not, get in."""
    return {
        each["probe"]["source"]: each["state"]
        for each in row["tries"]
        if each["probe"]["expected"] is expected
    }


def test_every_declared_way_is_proven_and_open_doors_are_named(
    fleet: LabFleet, virgin: dict[str, dict[str, str]]
) -> None:
    code, rows = checked(fleet)
    # Nothing guards these hosts yet, and the check says so.
    assert code == 1
    for row in rows.values():
        assert set(tries(row, expected=True).values()) <= {"open"}, row
    assert tries(rows["gpu-3", "rpc of stage 3"], expected=True) == {
        "gpu-0": "open",
        "gpu-2": "open",
    }
    assert rows["gpu-3", "rpc of stage 3"]["listening"] == "for this check"
    assert rows["gpu-0", "ssh"]["listening"].startswith("sshd")
    open_door = rows["gpu-1", "rpc of stage 1"]
    assert "open to gpu-2, whom no row names" in open_door["cause"]
    assert open_door["remedy"].startswith("let gpu-1's own firewall accept port")
    # What listens on loopback only is closed without any firewall.
    assert rows["gpu-0", "gateway"]["verdict"] == "ok"
    for host in fleet.fleet.hosts:
        assert "stagefleet-port" not in fleet.on(host, "ps", "-eo", "comm")
        assert fleet.files(host) == virgin[host]


def test_a_port_that_is_mapped_to_another_is_named(fleet: LabFleet) -> None:
    lab = fleet.built()
    (nat,) = lab.topology.nats
    first, second = nat.mappings[-2:]
    swapped = nat.model_copy(
        update={
            "mappings": (
                *nat.mappings[:-2],
                first.model_copy(update={"port": second.port}),
                second.model_copy(update={"port": first.port}),
            )
        }
    )

    def mapped(rules: str) -> None:
        command = network.inside(lab.place, nat.name, "nft", "-f", "-")
        run(*command, stdin=f"flush table ip nat\n{rules}")

    mapped(network.nat_rules(swapped))
    try:
        code, rows = checked(fleet)
    finally:
        mapped(network.nat_rules(nat))
    assert code == 1
    address = nat.public_ip
    assert (
        f"{address} port {first.public_port} leads to gpu-3 port {second.port}, not to gpu-3 port "
        f"{first.port}"
    ) in {row["cause"].split(";")[0] for row in rows.values()}


def test_what_cannot_be_asked_is_unknown(fleet: LabFleet) -> None:
    with fleet.changed():
        fleet.hosts["gpu-1"]["ansible_host"] = "10.77.0.99"
        fleet.hosts["gpu-1"]["ansible_ssh_common_args"] += " -o ConnectTimeout=3"
        _, rows = checked(fleet, "--host", "gpu-1")
    assert {host for host, _ in rows} == {"gpu-1"}
    row = rows["gpu-1", "rpc of stage 1"]
    assert (row["verdict"], row["cause"]) == ("unknown", "gpu-1 could not be asked")
    # What others see of it is true all the same.
    assert "open to gpu-0, whom no row names" in rows["gpu-1", "ssh"]["cause"]
