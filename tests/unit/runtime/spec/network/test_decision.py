"""What is done about links, what is refused, what is put back: by what a host says."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.spec.answers import Answer, Seen
from runtime.spec.inventory import fleet_of
from runtime.spec.network import files
from runtime.spec.network.decision import Decision, decide, decide_removal
from runtime.spec.network.files import Applied, Manager, apply_text, networkd_path
from runtime.spec.network.plan import NetworkPlan
from runtime.spec.network.record import Before
from runtime.spec.plan import plans
from runtime.spec.undoing import Change
from tests.support.links import CABLE, FEATURES, RINGS, link, linked

PING = "5 packets transmitted, 5 received\nrtt min/avg/max/mdev = 0.030/0.050/0.090/0.020 ms\n"
PROC = "/proc/sys/net/ipv4"
NETWORK_FILE = "/etc/systemd/network/20-wired.network"


class Machine:
    """A host that answers the questions of a plan, and does what a change says."""

    def __init__(self) -> None:
        self.mtu, self.most, self.up = 1500, 9194, True
        self.addresses: list[str] = []
        self.files = {
            "/run/systemd/system": "",
            f"{PROC}/tcp_mtu_probing": "0\n",
            f"{PROC}/tcp_congestion_control": "cubic\n",
            f"{PROC}/tcp_rmem": "4096\t131072\t6291456\n",
            f"{PROC}/tcp_wmem": "4096\t16384\t4194304\n",
        }
        self.writable = {"tcp_mtu_probing", "tcp_congestion_control", "tcp_rmem", "tcp_wmem"}
        self.unit = ("inactive", "")
        self.networkd, self.nmcli, self.networkd_file = "active", "", NETWORK_FILE
        self.ssh = "0 0 198.51.100.1:22 192.0.2.7:50000\n"
        self.answers: dict[str, Answer] = {
            "ethtool -g enp5s0": Answer(code=0, output=RINGS),
            "ethtool -k enp5s0": Answer(code=0, output=FEATURES),
            "ping enp5s0 10.99.0.2": Answer(code=0, output=PING),
        }
        self.master = ""

    def seen(self) -> Seen:
        card = {
            "ifname": "enp5s0",
            "mtu": self.mtu,
            "max_mtu": self.most,
            "flags": ["UP"] if self.up else [],
        } | ({"master": self.master} if self.master else {})
        office = {"ifname": "eno1", "mtu": 1500, "max_mtu": 9000, "flags": ["UP"]}
        own = [
            dict(zip(("local", "prefixlen"), each.split("/"), strict=True))
            for each in self.addresses
        ]
        addresses = [
            {"ifname": "enp5s0", "addr_info": own},
            {"ifname": "eno1", "addr_info": [{"local": "198.51.100.1", "prefixlen": 24}]},
        ]
        routes = [
            {"dst": "default", "dev": "eno1"},
            {"dst": "198.51.100.0/24", "dev": "eno1"},
        ]
        state, enabled = self.unit
        units = (
            f"Id=systemd-networkd.service\nActiveState={self.networkd}\n\n"
            f"Id={files.UNIT}\nActiveState={state}\nUnitFileState={enabled}\n"
        )
        paths = "\n".join(f"{PROC}/{name}" for name in self.writable)
        shown = f"  Network File: {self.networkd_file}\n" if self.networkd_file else "n/a\n"
        told = {
            "links": json.dumps([card, office, {}]),
            "addresses": json.dumps(addresses),
            "routes": json.dumps(routes),
            "ssh": self.ssh,
            "nmcli": self.nmcli,
            "writable": paths,
            "systemd": units,
            "networkd enp5s0": shown,
        }
        answers = {name: Answer(code=0, output=output) for name, output in told.items()}
        return Seen(answers=answers | self.answers, files=self.files)

    def take(self, change: Change, plan: NetworkPlan) -> None:
        """Do what a change says: its files by its steps, the rest as its programs would."""
        for step in change.steps:
            if step.text is not None:
                self.files[step.path] = step.text
            elif step.path:
                self.files.pop(step.path, None)
        self.unit = ("active", "enabled")
        (wanted,) = plan.links
        self.mtu, self.up = wanted.mtu or self.mtu, True
        self.addresses = [*dict.fromkeys((*self.addresses, wanted.address))]
        if wanted.nic.rx_ring:
            self.answers["ethtool -g enp5s0"] = Answer(code=0, output=RINGS.replace("512", "4096"))
        for line in self.files.get(files.SYSCTLS, "").splitlines():
            key, _, value = line.partition(" = ")
            if value:
                self.files[f"/proc/sys/{key.replace('.', '/')}"] = f"{value}\n"


def plan(nic: dict[str, Any] | None = None, **network: Any) -> NetworkPlan:
    hosts = linked(networks=[CABLE | network])
    link(hosts, 0)["nic"] = nic or {}
    return plans(fleet_of(hosts), {})["gpu-0"].network


def changed(decision: Decision) -> Change:
    assert decision.problem == ""
    assert decision.change is not None
    return decision.change


def written(change: Change) -> dict[str, str]:
    return {step.path: step.text for step in change.steps if step.text is not None}


def test_a_virgin_host_is_told_everything_and_then_nothing_more() -> None:
    machine, wanted = Machine(), plan({"rx_ring": "max", "tso": True, "lro": True})
    found = decide(wanted, machine.seen())
    texts = written(changed(found))
    drop_in = texts["/etc/systemd/network/20-wired.network.d/90-stagefleet.conf"]
    assert "MTUBytes=9000" in drop_in
    assert "Address=10.99.0.1/29\nConfigureWithoutCarrier=yes" in drop_in
    assert texts[files.SYSCTLS].endswith("net.ipv4.tcp_mtu_probing = 1\n")
    assert "ethtool -G enp5s0 rx 4096" in texts[files.APPLY]
    assert [each.what for each in found.findings] == ["enp5s0 lro"]
    assert [proof.command[-1] for proof in found.proofs] == ["10.99.0.2"]
    machine.take(changed(found), wanted)
    again = decide(wanted, machine.seen())
    assert again.change is None
    # What cannot be had is said by each run, not by the first alone.
    assert again.findings == found.findings


def test_what_drifts_is_put_right() -> None:
    machine, wanted = Machine(), plan()
    machine.take(changed(decide(wanted, machine.seen())), wanted)
    for attribute, value in (("mtu", 1500), ("addresses", []), ("up", False)):
        before = getattr(machine, attribute)
        setattr(machine, attribute, value)
        (what,) = {one.what for one in changed(decide(wanted, machine.seen())).differences}
        assert what == "enp5s0"
        setattr(machine, attribute, before)
    machine.files[f"{PROC}/tcp_mtu_probing"] = "0\n"
    assert "net.ipv4.tcp_mtu_probing" in {
        one.what for one in changed(decide(wanted, machine.seen())).differences
    }


def test_what_was_there_is_recorded_once_and_comes_back() -> None:
    machine, wanted = Machine(), plan({"rx_ring": "max"})
    machine.take(changed(decide(wanted, machine.seen())), wanted)
    before = machine.files[files.BEFORE]
    # A second change does not take the first one's result for what was there before.
    more = plan({"rx_ring": "max", "tso": False}, mtu=8000)
    machine.take(changed(decide(more, machine.seen())), more)
    record = Before.model_validate_json(machine.files[files.BEFORE])
    assert record.links["enp5s0"].mtu == 1500
    assert record.links["enp5s0"].told == {
        "rx_ring": ("ethtool", "-G", "enp5s0", "rx", "512"),
        "tso": ("ethtool", "-K", "enp5s0", "tso", "on"),
    }
    assert set(Before.model_validate_json(before).links["enp5s0"].told) == {"rx_ring"}
    removal = changed(decide_removal(more, machine.seen()))
    script = next(step.command[2] for step in removal.steps if step.command[:1] == ("sh",))
    for line in (
        "networkctl reconfigure enp5s0",
        "ip address delete 10.99.0.1/29 dev enp5s0",
        "ip link set dev enp5s0 mtu 1500",
        "ethtool -G enp5s0 rx 512",
        "sysctl -q -w net.ipv4.tcp_mtu_probing=0",
        "rmdir /etc/systemd/network/20-wired.network.d 2>/dev/null",
    ):
        assert line in script.splitlines()
    made = {path for path in machine.files if "stagefleet" in path}
    assert made <= {step.path for step in removal.steps}
    assert made <= set(removal.saved)


def test_what_is_no_longer_asked_for_goes_back() -> None:
    machine, wanted = Machine(), plan({"rx_ring": "max"}, rtt_ms=50)
    machine.take(changed(decide(wanted, machine.seen())), wanted)
    assert files.SYSCTLS in machine.files
    assert "bbr" in machine.files[f"{PROC}/tcp_congestion_control"]
    less = plan({})
    change = changed(decide(less, machine.seen()))
    script = next(step.command[2] for step in change.steps if step.command[:1] == ("sh",))
    assert "ethtool -G enp5s0 rx 512" in script
    assert "net.ipv4.tcp_congestion_control=cubic" in script


def test_a_host_without_the_fleet_has_nothing_to_put_back() -> None:
    machine, wanted = Machine(), plan()
    assert decide_removal(wanted, machine.seen()) == Decision()
    machine.take(changed(decide(wanted, machine.seen())), wanted)
    other = wanted.model_copy(update={"fleet": "another"})
    assert decide_removal(other, machine.seen()) == Decision()
    assert "its links are kept for the fleet 'lab'" in decide(other, machine.seen()).problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ssh": "0 0 10.99.0.1:22 10.99.0.5:4000\n"}, "has 10.99.0.5, from which an SSH session"),
        (
            {"addresses": ["10.1.1.1/24"], "ssh": "0 0 [::ffff:10.1.1.1]:22 [::ffff:1.2.3.4]:9\n"},
            "the interface 'enp5s0' carries SSH (the session from 1.2.3.4)",
        ),
        ({"most": 1500}, "mtu 9000, but the interface 'enp5s0' allows at most 1500"),
        ({"master": "br0"}, "'enp5s0' is a port of 'br0': name 'br0' instead"),
        ({"files": {}}, "it runs no systemd"),
    ],
)
def test_what_must_not_be_touched_is_refused(changes: dict[str, Any], words: str) -> None:
    machine = Machine()
    for attribute, value in changes.items():
        setattr(machine, attribute, value)
    found = decide(plan(), machine.seen())
    assert found.change is None
    assert found.problem.startswith("host gpu-0: ")
    assert words in found.problem


def test_an_interface_that_is_not_there_is_named_with_the_nearest() -> None:
    hosts = linked()
    link(hosts, 0)["interface"] = "enp5s1"
    wanted = plans(fleet_of(hosts), {})["gpu-0"].network
    problem = decide(wanted, Machine().seen()).problem
    assert "there is no interface 'enp5s1'; did you mean 'enp5s0'?" in problem


def test_an_address_of_another_interface_is_refused() -> None:
    wanted = plan()
    wanted = wanted.model_copy(
        update={"links": (wanted.links[0].model_copy(update={"address": "198.51.100.1/24"}),)}
    )
    assert "is on the interface 'eno1' already" in decide(wanted, Machine().seen()).problem


def test_settings_that_a_kernel_does_not_take_are_named_and_not_asked_again() -> None:
    machine, wanted = Machine(), plan(rtt_ms=50)
    machine.writable -= {"tcp_rmem"}
    found = decide(wanted, machine.seen())
    why = {each.what: each.why for each in found.findings}
    assert "cannot be written there" in why["net.ipv4.tcp_rmem"]
    assert "does not have it" in why["net.core.default_qdisc"]
    machine.take(changed(found), wanted)
    assert "131072 134217728" not in machine.files[files.SYSCTLS]
    # What only trying shows is noted by the unit.
    machine.files[f"{PROC}/tcp_congestion_control"] = "cubic\n"
    key = "net.ipv4.tcp_congestion_control"
    machine.files[files.REFUSED] = f"{key}\tbbr\tsysctl: setting key: No such file\n"
    again = decide(wanted, machine.seen())
    assert again.change is None
    assert "the kernel refuses it" in {one.what: one.why for one in again.findings}[key]


def test_a_card_that_refuses_what_it_says_it_can_is_named_and_not_asked_again() -> None:
    machine, wanted = Machine(), plan({"tso": False})
    machine.take(changed(decide(wanted, machine.seen())), wanted)
    assert decide(wanted, machine.seen()).change is not None
    machine.files[files.REFUSED] = "enp5s0 tso\toff\tCannot change\n"
    found = decide(wanted, machine.seen())
    assert found.change is None
    assert "the card refuses it: Cannot change" in str(found.findings[0])


def test_other_managers_are_told_in_their_way() -> None:
    machine, wanted = Machine(), plan()
    machine.networkd, machine.networkd_file = "inactive", ""
    nobody = decide(wanted, machine.seen())
    assert (
        "must ip address replace 10.99.0.1/29 dev enp5s0" in written(changed(nobody))[files.APPLY]
    )
    assert "is managed by nobody" in nobody.notes[0]
    machine.files["/etc/network/interfaces"] = "auto enp5s0\niface enp5s0 inet manual\n"
    assert "is in /etc/network/interfaces" in decide(wanted, machine.seen()).notes[0]
    del machine.files["/etc/network/interfaces"]
    machine.nmcli = "enp5s0:connected\neno1:connected\n"
    manager = decide(wanted, machine.seen())
    conf = written(changed(manager))[files.MANAGER_CONF]
    assert "[device-stagefleet-enp5s0]\nmatch-device=interface-name:enp5s0\nmanaged=0" in conf
    # Left alone, it looks as if nobody managed it, and is not given to somebody else.
    machine.take(changed(manager), wanted)
    machine.nmcli = "enp5s0:unmanaged\neno1:connected\n"
    assert decide(wanted, machine.seen()).change is None


def test_netplans_file_is_added_to_and_a_link_of_nobody_gets_its_own() -> None:
    made = networkd_path("enp5s0", "/run/systemd/network/10-netplan-enp5s0.network")
    assert made == "/etc/systemd/network/10-netplan-enp5s0.network.d/90-stagefleet.conf"
    own = networkd_path("enp5s0", "")
    assert own == "/etc/systemd/network/05-stagefleet-enp5s0.network"
    assert networkd_path("enp5s0", own) == own


def test_decisions_survive_the_way_to_the_host() -> None:
    found = decide(plan({"rx_ring": 9000}), Machine().seen())
    assert Decision.model_validate_json(json.dumps(found.model_dump(mode="json"))) == found


def test_the_unit_notes_what_is_refused_and_fails_where_a_link_cannot_do_without(
    tmp_path: Path,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("ethtool", 'case $2 in -K) echo "no such luck"; exit 1;; -G) exit 80;; esac'),
        ("sysctl", 'echo "$*" >>"$LOG"'),
        ("ip", 'case $* in *"address show"*) echo "2: lo inet 10.9.0.1/8 scope x";; esac'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    told = (("gro", "on", "ethtool", "x", "-K"), ("rx_ring", "8", "ethtool", "x", "-G"))

    def run(mtu: int) -> subprocess.CompletedProcess[str]:
        script = apply_text([Applied("lo", "10.9.0.1/8", mtu, Manager.NETWORKD, told)])
        script = script.replace("/etc/", f"{tmp_path}/").replace("seq 40", "seq 1")
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
        return subprocess.run(
            ["/bin/sh", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    state = tmp_path / "stagefleet-network"
    state.mkdir()
    (tmp_path / "sysctl.d").mkdir()
    (tmp_path / "sysctl.d" / files.SYSCTLS.rpartition("/")[2]).write_text("# ours\na.b = 1 2 3\n")
    assert run(int(Path("/sys/class/net/lo/mtu").read_text())).returncode == 0
    noted = files.refused_of((state / "refused").read_text())
    assert noted == {("lo gro", "on"): "no such luck"}
    assert (tmp_path / "log").read_text() == "-q -w a.b=1 2 3\n"
    failed = run(1234)
    assert failed.returncode == 1
    assert "failed: settled lo 10.9.0.1/8 1234" in failed.stderr
