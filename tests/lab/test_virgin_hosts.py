"""Hosts before anything is deployed: they are real, and a check leaves them as they are."""

import ipaddress
import json
import subprocess

import pytest

from lab.network import reachable
from lab.process import run
from lab.ssh import ssh
from tests.support.lab import LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_HEADERS = 28  # of IPv4 and ICMP


def test_hosts_run_systemd_and_nothing_has_failed(fleet: LabFleet) -> None:
    for host in fleet.fleet.hosts:
        assert fleet.on(host, "systemctl", "is-system-running", "--wait").strip() == "running"
        assert fleet.on(host, "hostname").strip() == host
        assert fleet.on(host, "ps", "--no-headers", "-o", "comm", "1").strip() == "systemd"


def test_the_data_link_carries_large_frames_and_the_other_does_not(fleet: LabFleet) -> None:
    def arrives(source: str, address: str, size: int) -> bool:
        ping = ("ping", "-c1", "-W2", "-Mdo", f"-s{size - _HEADERS}", address)
        return fleet.runs_on(source, *ping)

    management, data = (nic.address.partition("/")[0] for nic in fleet.machine("gpu-1").host.nics)
    assert arrives("gpu-0", data, 9000)
    assert not arrives("gpu-0", data, 9001)
    assert arrives("gpu-0", management, 1500)
    assert not arrives("gpu-0", management, 1501)


def test_the_operator_gets_in_by_ssh_and_checks_who_answers(fleet: LabFleet) -> None:
    lab = fleet.built()
    assert run(*ssh(lab.place, "gpu-0", "sudo", "id", "-un")).strip() == "root"
    known = lab.place.ssh / "known_hosts"
    before = known.read_text()
    keys = dict(line.split(" ", 1) for line in before.splitlines())
    first, second = list(keys)[:2]
    try:
        known.write_text(f"{first} {keys[second]}\n")
        refused = subprocess.run(
            ssh(lab.place, "gpu-0", "true"), capture_output=True, text=True, timeout=30, check=False
        )
    finally:
        known.write_text(before)
    assert refused.returncode != 0
    assert "Host key verification failed" in refused.stderr


def test_a_rented_host_is_reached_at_mapped_ports_only(fleet: LabFleet) -> None:
    lab = fleet.built()
    address, port = fleet.machine("gpu-3").host.seen_as
    assert reachable(lab.place, address, port)
    assert not reachable(lab.place, address, 22)
    own = fleet.machine("gpu-3").host.nics[0].address.partition("/")[0]
    assert not reachable(lab.place, own, 22)
    assert fleet.runs_on("gpu-3", "ping", "-c1", "-W2", fleet.hosts["gpu-0"]["ansible_host"])


def test_packages_really_install(fleet: LabFleet) -> None:
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes")
    assert not fleet.runs_on("gpu-0", "ethtool", "--version")
    fleet.on("gpu-0", *apt, "update")
    fleet.on("gpu-0", *apt, "install", "ethtool")
    assert fleet.runs_on("gpu-0", "ethtool", "--version")
    fleet.on("gpu-0", *apt, "purge", "--autoremove", "ethtool")


def test_this_machine_is_no_part_of_the_labs_networks(fleet: LabFleet) -> None:
    networks = [ipaddress.ip_network(network.cidr) for network in fleet.built().topology.networks]
    for card in json.loads(run("ip", "-json", "address")):
        for found in card["addr_info"]:
            assert not any(ipaddress.ip_address(found["local"]) in network for network in networks)


def test_a_check_of_virgin_hosts_fails_nothing_and_changes_nothing(
    fleet: LabFleet, virgin: dict[str, dict[str, str]]
) -> None:
    run = fleet.succeed("site", "--check", "--diff")
    for host, files in virgin.items():
        assert run.count(host, "changed") > 0
        assert fleet.changes(host, files) == {}
    assert '+  "stage": 1' in run.output
    # Of each kind of firewall.
    assert "+ip saddr 10.77.0.0/24 tcp dport 22 accept" in run.output
    assert "+allow from 10.77.0.0/24 to any port 22 proto tcp" in run.output
    assert '<source address="10.77.0.0/24"/><port port="22" protocol="tcp"/>' in run.output
    assert not (fleet.directory / "authority").exists()
