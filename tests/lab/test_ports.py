"""The proof of ports, before anything is deployed: through mapped ports, and of what is wrong."""

import pytest

from lab import network
from lab.process import run
from tests.support.lab import LabFleet, checked, tries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_every_declared_way_is_proven_and_open_doors_are_named(
    fleet: LabFleet, virgin: dict[str, dict[str, str]]
) -> None:
    code, rows = checked(fleet)
    # No firewall holds on these hosts yet, except one that lets in too little; the check says so.
    assert code == 1
    for (host, purpose), row in rows.items():
        gets_in = "open" if host != "gpu-2" or purpose == "ssh" else "unreachable"
        assert set(tries(row, expected=True).values()) <= {gets_in}, row
    rejected = rows["gpu-2", "rpc of stage 2"]
    assert "a firewall that rejects" in rejected["cause"]
    assert "./fleet firewall --limit gpu-2" in rejected["remedy"]
    assert tries(rows["gpu-3", "rpc of stage 3"], expected=True) == {
        "gpu-0": "open",
        "gpu-2": "open",
    }
    assert rows["gpu-3", "rpc of stage 3"]["listening"] == "for this check"
    assert rows["gpu-0", "ssh"]["listening"].startswith("sshd")
    open_door = rows["gpu-1", "rpc of stage 1"]
    assert "open to gpu-2, whom no row names" in open_door["cause"]
    assert open_door["remedy"] == "./fleet firewall --limit gpu-1"
    # What listens on loopback only is closed without any firewall.
    assert rows["gpu-0", "gateway"]["verdict"] == "ok"
    for host in fleet.fleet.hosts:
        assert "stagefleet-port" not in fleet.on(host, "ps", "-eo", "comm")
        assert fleet.changes(host, virgin[host]) == {}


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
