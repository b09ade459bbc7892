import json
from typing import Any

import pytest

from runtime.checks.ports_check import outcome, requests
from runtime.checks.ports_report import OURS, Row, Verdict, seen
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from runtime.spec.probes import OPERATOR
from tests.support.inventories import four_hosts

LISTENER = 77


def nat_hosts(**last: Any) -> dict[str, dict[str, Any]]:
    """Return three hosts of one network and a fourth behind NAT."""
    hosts = four_hosts(networks=[{"name": "rack", "cidr": "10.0.0.0/24"}])
    for number in range(3):
        hosts[f"gpu-{number}"]["fleet_host"] |= {
            "addresses": [f"10.0.0.{number + 1}", f"198.51.100.{number + 1}"]
        }
    hosts["gpu-3"] |= {"ansible_port": 40022}
    hosts["gpu-3"]["fleet_host"] = {
        "public_ip": "198.51.100.4",
        "ports": {"ssh": 22},
        "stages": [{"stage": 3, "public_dht_port": 40006, "public_rpc_port": 40007}],
    } | last
    return hosts


def connections(hosts: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {
        name: (host["ansible_host"], host.get("ansible_port", 0)) for name, host in hosts.items()
    }


def perfect(fleet: Fleet, ways: dict[str, tuple[str, int]]) -> dict[str, dict[str, Any]]:
    """Return what hosts say of which every port is as it should be, before anything is deployed."""
    asked = requests(fleet, ways)
    expected = {probe["id"]: probe for probe in probes_of(fleet, ways)}

    def dialled(request: dict[str, Any]) -> dict[str, Any]:
        return {
            "dialled": {
                each["id"]: {
                    "state": "open",
                    "name": "{host} port {port}".format(**expected[each["id"]]),
                }
                if expected[each["id"]]["expected"]
                else {"state": "silent", "name": ""}
                for each in request["dial"]
            }
        }

    found = {
        name: {
            "listening": {
                "listener": LISTENER,
                "sockets": [
                    {**each, "process": f"python3 (pid {LISTENER})"}
                    for each in asked["listen"][name]["listen"]
                ],
            },
            "dialled": dialled(asked["dial"][name]),
        }
        for name in fleet.hosts
    }
    return found | {"localhost": {"dialled": dialled(asked["operator"])}}


def probes_of(fleet: Fleet, ways: dict[str, tuple[str, int]]) -> list[dict[str, Any]]:
    from runtime.checks.ports_check import _probes

    return [probe.model_dump() for probe in _probes(fleet, ways)]


HOSTS = nat_hosts()
FLEET = fleet_of(HOSTS)
WAYS = connections(HOSTS)


def rows(facts: dict[str, dict[str, Any]], fleet: Fleet = FLEET) -> dict[tuple[str, str], Row]:
    found = outcome(fleet, WAYS, facts)["report"]["rows"]
    read = [Row.model_validate_json(json.dumps(row)) for row in found]
    return {(row.host, row.purpose): row for row in read}


def probe_id(source: str, host: str, port: int) -> str:
    (found,) = [
        probe["id"]
        for probe in probes_of(FLEET, WAYS)
        if (probe["source"], probe["host"], probe["port"]) == (source, host, port)
    ]
    return str(found)


def test_every_declared_source_dials_and_one_that_is_not() -> None:
    tried = {
        (probe["source"], probe["host"], probe["address"], probe["dialled"], probe["expected"])
        for probe in probes_of(FLEET, WAYS)
    }
    # Near ones by the network that they share, others through the public port.
    assert ("gpu-0", "gpu-1", "10.0.0.2", 8003, True) in tried
    assert ("gpu-2", "gpu-3", "198.51.100.4", 40007, True) in tried
    assert ("gpu-1", "gpu-3", "198.51.100.4", 40007, False) in tried
    assert ("gpu-2", "gpu-1", "10.0.0.2", 8003, False) in tried
    # The operator gets in by SSH, and nowhere else.
    assert (OPERATOR, "gpu-3", "198.51.100.4", 40022, True) in tried
    assert (OPERATOR, "gpu-3", "198.51.100.4", 40006, False) in tried
    assert (OPERATOR, "gpu-0", "198.51.100.1", 8008, False) in tried
    # Nobody reaches what listens on loopback.
    assert ("gpu-1", "gpu-0", "10.0.0.1", 8080, False) in tried


def test_ports_that_are_as_declared_are_ok() -> None:
    found = outcome(FLEET, WAYS, perfect(FLEET, WAYS))
    assert found["problem"] == ""
    assert found["report"]["verdict"] == "ok"
    row = rows(perfect(FLEET, WAYS))["gpu-3", "rpc of stage 3"]
    assert (row.listening, row.public_port, row.declared) == (OURS, 40007, ("gpu-0", "gpu-2"))


@pytest.mark.parametrize(
    ("source", "port", "result", "cause", "remedy"),
    [
        ("gpu-2", 8007, {"state": "silent", "name": ""}, "is not mapped to port 8007", "provider"),
        (
            "gpu-2",
            8007,
            {"state": "open", "name": "gpu-3 port 8006"},
            "leads to gpu-3 port 8006, not to",
            "map",
        ),
        ("gpu-2", 8007, {"state": "unreachable", "name": ""}, "no way from gpu-2", "public_ip"),
        ("gpu-1", 8007, {"state": "open", "name": ""}, "open to gpu-1, whom no row", "firewall"),
    ],
)
def test_a_mismatch_says_what_is_likely_and_what_mends_it(
    source: str, port: int, result: dict[str, str], cause: str, remedy: str
) -> None:
    facts = perfect(FLEET, WAYS)
    facts[source]["dialled"]["dialled"][probe_id(source, "gpu-3", port)] = result
    found = outcome(FLEET, WAYS, facts)
    assert found["report"]["verdict"] == "mismatch"
    row = rows(facts)["gpu-3", "rpc of stage 3"]
    assert row.verdict is Verdict.MISMATCH
    assert cause in row.cause
    assert remedy in row.remedy
    assert [each.verdict for each in rows(facts).values()].count(Verdict.MISMATCH) == 1


@pytest.mark.parametrize(
    ("cloud", "state", "cause"),
    [
        (None, "silent", "the firewall of gpu-1"),
        ("aws", "silent", "the rules of the cloud aws, or the firewall of gpu-1"),
        (None, "refused", "is refused although for this check listens"),
    ],
)
def test_a_dropped_packet_is_looked_for_where_it_may_be_lost(
    cloud: str | None, state: str, cause: str
) -> None:
    hosts = nat_hosts()
    if cloud:
        row = {"provider": "aws", "region": "us-east-1", "vpc": "vpc-12345678"}
        hosts["gpu-1"]["fleet"]["clouds"] = {"aws": row}
        for host in hosts.values():
            host["fleet"] = hosts["gpu-1"]["fleet"]
        hosts["gpu-1"]["fleet_host"]["cloud"] = cloud
    fleet = fleet_of(hosts)
    facts = perfect(fleet, WAYS)
    facts["gpu-0"]["dialled"]["dialled"][probe_id("gpu-0", "gpu-1", 8003)] = {
        "state": state,
        "name": "",
    }
    assert cause in rows(facts, fleet)["gpu-1", "rpc of stage 1"].cause


def test_a_port_at_which_nobody_listens_says_why() -> None:
    facts = perfect(FLEET, WAYS)
    there = facts["gpu-1"]["listening"]
    there["sockets"] = [each for each in there["sockets"] if each["port"] != 8003]
    there["problems"] = {"tcp/8003": "Cannot assign requested address"}
    facts["gpu-0"]["dialled"]["dialled"][probe_id("gpu-0", "gpu-1", 8003)] = {
        "state": "refused",
        "name": "",
    }
    row = rows(facts)["gpu-1", "rpc of stage 1"]
    assert row.cause == ("nobody listens on gpu-1 port 8003: Cannot assign requested address")


def test_a_host_that_cannot_be_asked_leaves_its_ports_unknown() -> None:
    facts = perfect(FLEET, WAYS)
    del facts["gpu-2"]
    found = rows(facts)
    assert found["gpu-2", "ssh"].verdict is Verdict.UNKNOWN
    assert found["gpu-3", "rpc of stage 3"].cause == "could not be tried from gpu-2"
    assert outcome(FLEET, WAYS, facts)["report"]["verdict"] == "unknown"
    # What the others have seen counts all the same.
    assert found["gpu-1", "rpc of stage 1"].verdict is Verdict.UNKNOWN
    assert found["gpu-1", "ssh"].verdict is Verdict.OK


def test_processes_of_services_are_named() -> None:
    there = {"sockets": [{"protocol": "tcp", "port": 22, "process": "sshd (pid 4)"}]}
    assert seen(there).sockets == {"tcp/22": "sshd (pid 4)"}
