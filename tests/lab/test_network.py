"""Data links on real hosts: tuned, kept over a reboot, put back; and how a bad change ends."""

import copy
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lab.network import port_of
from lab.process import run
from lab.ssh import ssh
from lab.topology import SWITCH
from tests.support.lab import NAME, LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_LINKED = ("gpu-0", "gpu-1", "gpu-2")
_INSTALLED = "/etc/systemd/network/1-data0.network"
# A change that cuts everybody off has undone itself after this time.
_BACK_SECONDS = 60
# A connection of its own that is given up after 30 s of silence, before a change undoes itself.
_IMPATIENT = " -o ControlPath=none -o ServerAliveCountMax=1"
# A card of which one setting resets another port, the operators' or its own, until it is set back.
_BAD_CARD = """#!/bin/sh
case "$*" in
  "-K data0 {setting} off") ip link set {port} down ;;
  "-K data0 {setting} on") ip link set {port} up ;;
esac
exec /usr/sbin/ethtool-real "$@"
"""


@pytest.fixture(scope="module")
def linked(fleet: LabFleet) -> Iterator[LabFleet]:
    """Three hosts whose administrators left the fast network at 1500 bytes, and want 9000."""
    before = copy.deepcopy((fleet.hosts, fleet.site))

    def prepare(host: str) -> None:
        # Somebody has been there before: sudo leaves a note of an administrator's first time.
        run(*ssh(fleet.built().place, host, "sudo", "true"))
        apt = "apt-get --yes --quiet --no-install-recommends"
        fleet.on(host, "sh", "-c", f"{apt} update && {apt} install ethtool iperf3")
        fleet.on(host, "sed", "-i", "s/MTUBytes=9000/MTUBytes=1500/", _INSTALLED)
        fleet.on(host, "networkctl", "reload")

    with ThreadPoolExecutor() as pool:
        list(pool.map(prepare, _LINKED))
    fleet.site["networks"][0] |= {"mtu": 9000, "speed_gbps": 10}
    for host in _LINKED:
        address = fleet.hosts[host]["fleet_host"]["addresses"][0]
        fleet.hosts[host]["fleet_host"]["links"] = [
            {"interface": "data0", "address": address, "nic": {"rx_ring": "max", "gro": True}}
        ]
    for host in _LINKED:
        deadline = time.monotonic() + 20
        while mtu(fleet, host) != 1500:
            assert time.monotonic() < deadline
            time.sleep(0.2)  # between two looks; the deadline ends them
    yield fleet
    fleet.hosts, fleet.site = before


@pytest.fixture(scope="module")
def untuned(linked: LabFleet) -> dict[str, dict[str, str]]:
    """The files of the hosts before their links are tuned."""
    return {host: linked.files(host) for host in _LINKED}


def mtu(fleet: LabFleet, host: str) -> int:
    return int(fleet.on(host, "cat", "/sys/class/net/data0/mtu"))


def test_a_check_of_virgin_hosts_shows_what_would_change_and_changes_nothing(
    linked: LabFleet, untuned: dict[str, dict[str, str]]
) -> None:
    found = linked.succeed("network", "--check", "--diff")
    assert {host: found.count(host, "changed") for host in _LINKED} == dict.fromkeys(_LINKED, 1)
    assert "+MTUBytes=9000" in found.output
    assert "-mtu 1500" in found.output
    with linked.changed():
        linked.hosts["gpu-0"]["fleet_host"]["links"][0]["interface"] = "eth0"
        refused = linked.play("network", "--limit", "gpu-0")
    assert refused.code != 0
    operator = linked.built().topology.operator
    said = " ".join(refused.output.split())
    assert f"the interface 'eth0' carries SSH (the session from {operator})" in said
    for host, files in untuned.items():
        assert linked.changes(host, files) == {}


def test_links_are_tuned_reported_quiet_and_outlive_a_reboot(linked: LabFleet) -> None:
    found = linked.succeed("network")
    assert {host: mtu(linked, host) for host in _LINKED} == dict.fromkeys(_LINKED, 9000)
    said = " ".join(found.output.split())
    assert "data0 rx_ring: max is asked for, not set" in said
    again = linked.succeed("network")
    assert {host: again.count(host, "changed") for host in _LINKED} == dict.fromkeys(_LINKED, 0)
    linked.reboot("gpu-1")
    assert mtu(linked, "gpu-1") == 9000
    probing = "net.ipv4.tcp_mtu_probing"
    assert linked.on("gpu-1", "sysctl", "-n", probing).strip() == "1"


def proven(fleet: LabFleet, *arguments: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Return how `check-links` ends, and its rows by the two ends."""
    inventory = str(fleet.inventory)
    asked = fleet.stagefleet("check-links", "-i", inventory, "--json", *arguments)
    said, problem = asked.communicate(timeout=240)
    assert said, problem
    rows = json.loads(said)["rows"]
    return asked.returncode, {(row["way"]["source"], row["way"]["target"]): row for row in rows}


def test_full_packets_pass_both_ways_and_a_smaller_hop_is_named(linked: LabFleet) -> None:
    lab = linked.built()
    port = port_of(lab.topology, lab.topology.host("gpu-1"), "data")
    switch = ("ip", "-n", lab.place.namespace(SWITCH), "link", "set", port, "mtu")
    # Behind the other tests an administrator has a firewall, which refuses what is measured with.
    if linked.runs_on("gpu-2", "systemctl", "is-active", "firewalld"):
        linked.succeed("firewall", "--limit", "gpu-2")
    run(*switch, "1500")
    try:
        code, rows = proven(linked, "--seconds", "1")
    finally:
        run(*switch, "9000")
    assert code == 1
    assert len(rows) == 6
    for pair, row in rows.items():
        assert row["tool"] == "iperf3"
        assert 0 < row["rtt_p50_ms"] <= row["rtt_p99_ms"]
        assert row["gbps"] > 0
        assert 9.9 < row["most_gbps"] < 9.91
        if "gpu-1" in pair:
            # A switch leaves room for a tag.
            assert row["passes"] in (1500, 1504), row
            assert (row["verdict"], row["at_fault"]) == ("bad", "gpu-1"), row
        else:
            assert row["passes"] == 9000, row


@contextmanager
def silences(fleet: LabFleet, ports: dict[str, str]) -> Iterator[dict[str, float]]:
    """Yield how many seconds at a time each of these ports was not heard of, once all is over."""
    over, longest = threading.Event(), dict.fromkeys(ports, 0.0)

    def listen(host: str, port: str) -> None:
        nics = fleet.machine(host).host.nics
        address = next(nic.address for nic in nics if nic.interface == port).partition("/")[0]
        heard = time.monotonic()
        while not over.wait(0.5):
            if fleet.runs_on("gpu-0", "ping", "-c1", "-W1", address):
                heard = time.monotonic()
            longest[host] = max(longest[host], time.monotonic() - heard)

    with ThreadPoolExecutor() as pool:
        listening = [pool.submit(listen, *each) for each in ports.items()]
        try:
            yield longest
        finally:
            over.set()
            for each in listening:
                each.result()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_change_that_cuts_somebody_off_undoes_itself(linked: LabFleet, turn: int) -> None:
    """Two cards reset a port when they are told something: the operators' one, and their own.

    Whatever undid the first change has to undo the next one too.
    """
    faults = {"gpu-1": ("gso", "data0"), "gpu-2": ("gro", "eth0")}
    for host, (setting, port) in faults.items():
        linked.on(host, "mv", "/usr/sbin/ethtool", "/usr/sbin/ethtool-real")
        text = _BAD_CARD.format(setting=setting, port=port)
        linked.on(host, "sh", "-c", f"cat >/usr/sbin/ethtool <<'END'\n{text}END")
        linked.on(host, "chmod", "755", "/usr/sbin/ethtool")
    ports = {host: port for host, (_, port) in faults.items()}
    try:
        with linked.changed(), silences(linked, ports) as silent:
            for host, (setting, _) in faults.items():
                link = linked.hosts[host]["fleet_host"]["links"][0]
                link["nic"] = {"gro": True} | {setting: False}
            # The connection is given up before the change is undone, not only delayed by it.
            linked.hosts["gpu-2"]["ansible_ssh_common_args"] += _IMPATIENT
            found = linked.play("network", "--limit", ",".join(faults))
    finally:
        for host in faults:
            linked.on(host, "mv", "/usr/sbin/ethtool-real", "/usr/sbin/ethtool")
    assert found.code != 0
    said = " ".join(found.output.split())
    for host in faults:
        wanted = f"{host}: its data links were changed, and then the host or a neighbour"
        assert wanted in said, (turn, found.output)
    assert all(0 < seconds <= _BACK_SECONDS for seconds in silent.values()), silent
    for host, (setting, _) in faults.items():
        shown = linked.on(host, "ethtool", "-k", "data0")
        name = {"gso": "generic-segmentation-offload", "gro": "generic-receive-offload"}[setting]
        assert f"{name}: on" in shown
        assert linked.runs_on(host, "test", "!", "-e", "/var/lib/stagefleet-network")
        assert mtu(linked, host) == 9000


def test_destroying_puts_back_what_was_there(
    linked: LabFleet, untuned: dict[str, dict[str, str]]
) -> None:
    linked.succeed("destroy", "-e", f"destroy_fleet={NAME}")
    assert {host: mtu(linked, host) for host in _LINKED} == dict.fromkeys(_LINKED, 1500)
    again = linked.succeed("revert_network")
    assert {host: again.count(host, "changed") for host in _LINKED} == dict.fromkeys(_LINKED, 0)
    for host, files in untuned.items():
        assert linked.changes(host, files) == {}
