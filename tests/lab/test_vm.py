"""The lab's virtual machine: what containers on this machine's kernel cannot do, it can."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import build
from lab.errors import LabError
from lab.machine import Machine
from lab.process import run
from lab.topology import ADDRESSES_VARIABLE
from tests.support.lab import LabFleet, join

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_DELAY = 60
# What fills 10 Gb/s over 50 ms: twice its 62.5 MB, as a power of two.
_FAR = {
    "net.core.rmem_max": ["134217728"],
    "net.core.wmem_max": ["134217728"],
    "net.core.default_qdisc": ["fq"],
    "net.ipv4.tcp_congestion_control": ["bbr"],
    "net.ipv4.tcp_rmem": ["4096", "131072", "134217728"],
}


@pytest.fixture(scope="module")
def vm(fleet: LabFleet, sample_model: Path) -> Iterator[Machine]:
    """The virtual machine, switched on; every command that talks to it has a time limit."""
    topology = fleet.built().topology
    fleet.lab = build.up(
        topology, sample_model, lambda said: print(f"lab: {said}", file=sys.stderr), vm=True
    )
    machine = fleet.machine("vm-0")
    yield machine
    machine.kill()


def told(machine: Machine, script: str) -> str:
    """Return what a shell script of root prints on a host."""
    try:
        return run(*machine.command(script), seconds=180)
    except LabError as error:
        error.add_note(f"it is {machine.state()}; the end of its console:\n{machine.console()}")
        raise


def test_it_has_a_kernel_of_its_own(vm: Machine) -> None:
    assert told(vm, "uname -r") != run("uname", "-r")
    assert told(vm, "systemctl is-system-running --wait").strip() == "running"
    assert told(vm, "hostname").strip() == "vm-0"


def test_it_is_on_the_same_network(vm: Machine, fleet: LabFleet) -> None:
    told(vm, f"ping -c1 -W5 {fleet.hosts['gpu-0']['ansible_host']}")
    assert fleet.runs_on("gpu-0", "ping", "-c1", "-W5", vm.host.seen_as[0])


def test_it_makes_wireguard_interfaces(vm: Machine) -> None:
    shown = told(
        vm,
        "ip link add wg0 type wireguard && wg genkey >/run/key"
        " && wg set wg0 listen-port 51000 private-key /run/key && wg show wg0",
    )
    assert "listening port: 51000" in shown
    told(vm, "ip link delete wg0")


def test_it_serves_and_mounts_nfs(vm: Machine) -> None:
    found = told(
        vm,
        "mkdir -p /srv/shared /mnt/shared && echo hello >/srv/shared/file"
        " && systemctl start nfs-server"
        " && exportfs -o rw,fsid=0,no_subtree_check 127.0.0.1:/srv/shared"
        " && mount -t nfs4 -o vers=4.2 127.0.0.1:/ /mnt/shared && cat /mnt/shared/file"
        " && grep ' /mnt/shared ' /proc/mounts; umount /mnt/shared; systemctl stop nfs-server",
    )
    assert found.startswith("hello\n")
    assert "vers=4.2" in found


def test_it_sets_what_belongs_to_a_whole_kernel(vm: Machine) -> None:
    wanted = {"net.core.rmem_max": "134217728", "vm.swappiness": "7"}
    for key, value in wanted.items():
        told(vm, f"sysctl -w {key}={value}")
        assert told(vm, f"sysctl -n {key}").strip() == value


def test_it_delays_packets(vm: Machine, fleet: LabFleet) -> None:
    told(vm, f"tc qdisc replace dev eth0 root netem delay {_DELAY}ms")
    try:
        said = fleet.on("gpu-0", "ping", "-c3", "-W5", vm.host.seen_as[0])
    finally:
        told(vm, "tc qdisc delete dev eth0 root")
    found = re.search(r"= ([0-9.]+)/", said)
    assert found
    assert float(found[1]) >= _DELAY


def test_its_disk_and_its_tuned_link_outlive_a_power_cut(vm: Machine, fleet: LabFleet) -> None:
    told(vm, "apt-get update --quiet && apt-get install --yes --quiet ethtool")
    card = "ethtool --show-ring data0 | sed -n '/Current/,$p' | grep RX:"
    before = {key: told(vm, f"sysctl -n {key}").strip() for key in _FAR}
    with fleet.changed():
        join(fleet, "vm-0")
        (address,) = fleet.hosts["vm-0"][ADDRESSES_VARIABLE]
        nic = {"rx_ring": 128, "lro": True, "queues": 8}
        link = {"interface": "data0", "address": address, "nic": nic}
        fleet.hosts["vm-0"]["fleet_host"]["links"] = [link]
        # An ocean away, so that a whole kernel's settings change.
        fleet.site["networks"][0] |= {"mtu": 9000, "speed_gbps": 10, "rtt_ms": 50}
        found = fleet.succeed("network", "--limit", "vm-0")
        said = " ".join(found.output.split())
        assert "data0 queues: 8 is asked for, 1 is set" in said
        again = fleet.succeed("network", "--limit", "vm-0")
        assert again.count("vm-0", "changed") == 0

        told(vm, "echo kept >/root/note && sync")
        vm.kill()
        fleet.built().boot(["vm-0"])
        assert told(vm, "cat /root/note").strip() == "kept"
        assert {key: told(vm, f"sysctl -n {key}").split() for key in _FAR} == _FAR
        assert told(vm, card).split() == ["RX:", "128"]
        assert " fq " in told(vm, "tc qdisc show dev data0")
        assert told(vm, "cat /sys/class/net/data0/mtu").strip() == "9000"

        fleet.succeed("revert_network", "--limit", "vm-0")
        assert {key: told(vm, f"sysctl -n {key}").strip() for key in _FAR} == before
        assert told(vm, card).split() == ["RX:", "256"]
