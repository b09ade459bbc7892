"""What each host is asked to do to prove the links, and what its answers come to."""

from typing import Any

from runtime.checks.link_check import outcome, requests, ways
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from tests.support.inventories import four_hosts
from tests.support.links import linked


def fleet(links: int = 2) -> Fleet:
    hosts = linked()
    for number in range(2, links):
        hosts[f"gpu-{number}"]["fleet_host"]["links"] = [
            {"interface": "enp6s0", "address": f"10.99.0.{number + 1}"}
        ]
    return fleet_of(hosts)


def interface(errors: int = 0) -> dict[str, Any]:
    return {
        "mtu": 9000,
        "carrier": 1,
        "speed_mbps": 10000,
        "counters": {"rx_errors": errors, "rx_dropped": None},
    }


def said(peers: int = 2) -> dict[str, dict[str, Any]]:
    """Return what hosts print whose links are good."""
    found: dict[str, dict[str, Any]] = {}
    for way in ways(fleet(peers)):
        facts = found.setdefault(way.source, {"sent": {"ways": {}}})
        facts["looked"] = {"interfaces": {way.source_interface: interface(7)}, "iperf3": True}
        facts["ended"] = {"interfaces": {way.source_interface: interface(7)}}
        facts["sent"]["ways"][way.id] = {
            "passes": 9000,
            "rtt_ms": {"p50": 0.1, "p99": 0.2},
            "tcp": {"gbps": 9.85, "retransmits": 0, "cpu_here": 1.0, "cpu_there": 1.0},
        }
    return found


def test_every_direction_is_a_way_of_its_own() -> None:
    assert [(way.source, way.target) for way in ways(fleet())] == [
        ("gpu-0", "gpu-1"),
        ("gpu-1", "gpu-0"),
    ]
    assert len(ways(fleet(4))) == 12
    (first, *_) = ways(fleet(3))
    assert (first.source_address, first.target_address, first.mtu) == (
        *("10.99.0.1", "10.99.0.2", 9000),
    )


def test_each_host_sends_to_its_neighbours_and_others_do_nothing() -> None:
    found = requests(fleet(3), {}, seconds=5, streams=4)
    assert found["problem"] == ""
    assert found["look"]["gpu-2"] == {"look": ["enp6s0"]}
    sends = found["send"]["gpu-0"]["send"]
    assert [each["address"] for each in sends] == ["10.99.0.2", "10.99.0.3"]
    assert {each["seconds"] for each in sends} == {5}
    assert found["receive"]["gpu-0"]["receive"]["address"] == "10.99.0.1"
    assert found["receive"]["gpu-3"] == {}
    assert found["send"]["gpu-3"] == {"send": []}


def test_one_tool_measures_all() -> None:
    both = {"gpu-0": {"iperf3": True}, "gpu-1": {"iperf3": True}}
    assert requests(fleet(), both, 1, 1)["receive"]["gpu-0"]["receive"]["tool"] == "iperf3"
    one = both | {"gpu-1": {"iperf3": False}}
    assert requests(fleet(), one, 1, 1)["receive"]["gpu-0"]["receive"]["tool"] == "own"


def test_where_there_is_nothing_to_measure_it_is_said() -> None:
    none = requests(fleet_of(four_hosts()), {}, 1, 1)["problem"]
    assert "no host of the inventory has links" in none
    alone = linked()
    del alone["gpu-1"]["fleet_host"]["links"]
    assert "gpu-0 has links, but no other host" in requests(fleet_of(alone), {}, 1, 1)["problem"]


def test_good_links_are_good_and_what_was_counted_before_counts_nothing() -> None:
    found = outcome(fleet(), said(), seconds=5)
    assert (found["problem"], found["report"]["verdict"]) == ("", "ok")
    assert len(found["lines"]) == 2


def test_a_host_that_could_not_be_asked_makes_its_ways_unknown() -> None:
    facts = said(3)
    facts["gpu-1"] = {}
    found = outcome(fleet(3), facts, seconds=5)
    verdicts = {
        (row["way"]["source"], row["way"]["target"]): row["verdict"]
        for row in found["report"]["rows"]
    }
    assert verdicts["gpu-1", "gpu-0"] == "unknown"
    assert verdicts["gpu-0", "gpu-2"] == "ok"
    assert "no interface" not in found["problem"]


def test_why_nobody_received_is_told() -> None:
    facts = said()
    facts["gpu-1"]["receiving"] = {"problem": "port 9 cannot be opened: Address already in use"}
    del facts["gpu-0"]["sent"]["ways"]["gpu-0 enp5s0 gpu-1 enp5s0"]["tcp"]
    found = outcome(fleet(), facts, seconds=5)
    assert "gpu-1: port 9 cannot be opened: Address already in use" in found["problem"]
    assert found["report"]["verdict"] == "unknown"


def test_what_is_counted_meanwhile_is_told() -> None:
    facts = said()
    facts["gpu-1"]["ended"]["interfaces"]["enp5s0"] = interface(12)
    facts["gpu-0"]["sent"]["ways"]["gpu-0 enp5s0 gpu-1 enp5s0"]["tcp"]["gbps"] = 5.0
    found = outcome(fleet(), facts, seconds=5)
    assert "enp5s0 of gpu-1 has counted rx_errors 5 meanwhile" in found["problem"]
