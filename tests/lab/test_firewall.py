"""Firewalls of all three kinds on real hosts: what comes in, what not, and how a mistake ends."""

import ipaddress
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from lab.network import inside
from lab.process import run, succeeds
from lab.ssh import ssh
from lab.topology import SWITCH
from runtime.spec.fleet import Fleet
from runtime.spec.flows import flows
from runtime.spec.links import link
from runtime.spec.openings import openings
from runtime.spec.sources import source_of
from tests.lab.conftest import PROMPT, TOKENS
from tests.support.lab import LabFleet, checked, tries
from tests.support.playbooks import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_TRIPLES = 20
_STRANGER = "10.78.0.250"
"""Nobody of the fleet, but on its network."""
_TABLE = ("nft", "--stateless", "list", "table", "inet", "stagefleet")
# A change that locks everybody out has undone itself after this time.
_BACK_SECONDS = 60
_LISTENER = """
import socket, sys, time
for port in sys.argv[1:]:
    found = socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    globals()[f"kept{port}"] = found
time.sleep(1000)
"""
Triple = tuple[str, int, str]
"""A host, a port of it, and where a connection to it comes from."""
# By administrators, before the fleet came: see tests/lab/conftest.py.
_OPENED: list[Triple] = [("gpu-1", 5000, SWITCH), ("gpu-2", 5001, SWITCH)]


def rules(fleet: LabFleet, host: str) -> str:
    """Return what a host's own tool says of its rules, and whether they outlive a reboot."""
    ask = {
        "gpu-1": "cat /etc/ufw/user.rules /etc/ufw/user6.rules /etc/ufw/ufw.conf; "
        "ufw status verbose",
        "gpu-2": "firewall-cmd --list-all-policies; cat /etc/firewalld/policies/*; "
        "firewall-cmd --list-all-zones",
    }.get(host, f"{' '.join(_TABLE)}; cat /etc/stagefleet-firewall/nftables.d/*")
    units = "systemctl is-enabled ufw firewalld nftables stagefleet-firewall 2>&1"
    return fleet.on(host, "sh", "-c", f"{ask}; {units}; find /etc/stagefleet-firewall; true")


def is_declared(spec: Fleet, triple: Triple) -> bool:
    host, port, source = triple
    seen_as = f"{_STRANGER}/32" if source == SWITCH else source_of(spec, source, host)
    return any(
        opening.port == port
        and ipaddress.IPv4Network(seen_as).subnet_of(ipaddress.IPv4Network(opening.source))
        for opening in openings(spec)[host]
    )


def undeclared(spec: Fleet, seed: int) -> list[Triple]:
    """Return connections that nobody has declared, some of them to ports of the fleet itself.

    None goes to gpu-3: its NAT maps no port but declared ones.
    """
    draw = random.Random(seed)
    hosts = [name for name in spec.hosts if name != "gpu-3"]
    own = [flow.port for flow in flows(spec)]
    found: set[Triple] = set()
    while len(found) < _TRIPLES:
        host = draw.choice(hosts)
        port = draw.choice((draw.choice(own), draw.randrange(10000, 30000)))
        triple = (host, port, draw.choice([*hosts, "gpu-3", SWITCH]))
        if triple[2] != host and not is_declared(spec, triple):
            found.add(triple)
    return sorted(found)


def passes(fleet: LabFleet, spec: Fleet, triple: Triple) -> bool:
    host, port, source = triple
    if source != SWITCH:
        return fleet.connects(source, link(spec, source, host).address, port)
    probe = f"exec 3<>/dev/tcp/{data_address(fleet, host)}/{port}"
    place = fleet.built().place
    return succeeds(*inside(place, SWITCH, "timeout", "2", "bash", "-c", probe))


def data_address(fleet: LabFleet, host: str) -> str:
    return fleet.machine(host).host.nics[1].address.partition("/")[0]


@contextmanager
def stranger(fleet: LabFleet) -> Iterator[None]:
    """Put somebody who is no host of the fleet on its fast network."""
    place = fleet.built().place
    address = ("address", "add", f"{_STRANGER}/24", "dev", "data")
    run(*inside(place, SWITCH, "ip", *address))
    try:
        yield
    finally:
        run(*inside(place, SWITCH, "ip", "address", "delete", *address[2:]))


@contextmanager
def listeners(fleet: LabFleet, triples: list[Triple]) -> Iterator[None]:
    """Let something listen wherever it is probed: a port that is closed proves nothing."""
    hosts = sorted({host for host, _, _ in triples})
    for host in hosts:
        taken = fleet.on(host, "ss", "--no-header", "--listening", "--tcp", "--numeric")
        ports = {port for other, port, _ in triples if other == host}
        free = sorted(port for port in ports if f":{port} " not in taken)
        fleet.on(
            *(host, "systemd-run", "--quiet", "--collect", "--unit=lab-listener"),
            *("/usr/bin/python3", "-c", _LISTENER, *map(str, free)),
        )
        deadline = time.monotonic() + 20
        for port in ports:
            while not fleet.connects(host, "127.0.0.1", port):
                assert time.monotonic() < deadline, f"nothing listens on port {port} of {host}"
    yield
    for host in hosts:
        fleet.on(host, "systemctl", "stop", "lab-listener")


def holds(fleet: LabFleet, spec: Fleet, undeclared: list[Triple]) -> None:
    """Require that what is declared comes in, and what is not stays out."""
    declared = [
        (flow.host, flow.public_port or flow.port, source)
        for flow in flows(spec)
        for source in flow.hosts
    ]
    assert len(declared) == 4 * 3 + 6
    probed = [*declared, *_OPENED, *undeclared]
    with (
        listeners(fleet, [*undeclared, *_OPENED]),
        stranger(fleet),
        ThreadPoolExecutor(len(probed)) as pool,
    ):
        found = list(pool.map(partial(passes, fleet, spec), probed))
    # What others have opened stays open where their tool and ours are the same.
    expected = [True] * (len(declared) + len(_OPENED)) + [False] * len(undeclared)
    assert dict(zip(probed, found, strict=True)) == dict(zip(probed, expected, strict=True))


def test_declared_flows_pass_and_no_others_before_and_after_a_reboot(
    deployed: LabFleet, expected: list[int]
) -> None:
    spec = deployed.fleet
    triples = undeclared(spec, random.randrange(10**6))
    before = {host: rules(deployed, host) for host in spec.hosts}
    assert "policy drop" in before["gpu-0"]
    assert "Status: active" in before["gpu-1"]
    assert "stagefleet" in before["gpu-2"]
    assert "policy drop" in before["gpu-3"]
    holds(deployed, spec, triples)

    deployed.reboot(*spec.hosts)
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
    holds(deployed, spec, triples)
    assert {host: rules(deployed, host) for host in spec.hosts} == before
    assert deployed.runs_on("gpu-0", "nft", "list", "table", "inet", "alice")


def test_every_port_of_guarded_hosts_is_as_declared(deployed: LabFleet) -> None:
    code, rows = checked(deployed)
    assert {key: row["cause"] for key, row in rows.items() if row["verdict"] != "ok"} == {}
    assert code == 0
    # Those who must not get in have tried: some at every host.
    kept_out = {host for (host, _), row in rows.items() if tries(row, expected=False)}
    assert kept_out == set(deployed.fleet.hosts)
    assert rows["gpu-1", "rpc of stage 1"]["listening"].startswith("python")


def test_ipv6_is_guarded_and_neighbours_find_each_other(deployed: LabFleet) -> None:
    listen_on = 21999
    for host in ("gpu-0", "gpu-1", "gpu-2"):
        deployed.on(
            *(host, "systemd-run", "--quiet", "--collect", "--unit=lab-listener6"),
            *("/usr/bin/python3", "-c", _LISTENER, str(listen_on)),
        )
        shown = deployed.on(host, "ip", "-6", "-brief", "address", "show", "dev", "data0")
        address = next(word for word in shown.split() if word.startswith("fe80:")).partition("/")[0]
        other = "gpu-1" if host == "gpu-0" else "gpu-0"
        assert deployed.runs_on(other, "ping", "-c1", "-W2", f"{address}%data0")
        assert not deployed.connects(other, f"{address}%data0", listen_on)
        assert deployed.connects(host, f"{address}%data0", listen_on)
        deployed.on(host, "systemctl", "stop", "lab-listener6")


def test_a_check_of_guarded_hosts_changes_nothing_and_says_what_others_have_opened(
    deployed: LabFleet,
) -> None:
    hosts = deployed.hosts
    found = deployed.succeed("firewall", "--check", "--diff")
    assert {host: found.count(host, "changed") for host in hosts} == dict.fromkeys(hosts, 0)
    assert "ufw allow 5000/tcp" in found.output
    assert "ports 5001/tcp" in found.output
    assert "table inet alice" in found.output


def test_an_administrators_nftables_that_flushes_everything_brings_ours_back(
    deployed: LabFleet,
) -> None:
    before = rules(deployed, "gpu-0")
    for verb in ("reload", "restart"):
        deployed.on("gpu-0", "systemctl", verb, "nftables")
        deadline = time.monotonic() + 10
        # systemctl waits for nftables only, not for what follows it.
        while rules(deployed, "gpu-0") != before:
            assert time.monotonic() < deadline, rules(deployed, "gpu-0")


def test_broken_and_contradicting_firewalls_are_named_and_nothing_changes(
    deployed: LabFleet,
) -> None:
    before = {host: rules(deployed, host) for host in deployed.fleet.hosts}
    deployed.on("gpu-3", "mv", "/usr/sbin/nft", "/usr/sbin/nft-kept")
    try:
        deployed.on(
            "gpu-3", "sh", "-c", "printf '#!/bin/sh\necho no netlink >&2; exit 1\n' >/usr/sbin/nft"
        )
        deployed.on("gpu-3", "chmod", "755", "/usr/sbin/nft")
        with deployed.changed():
            deployed.site["operators"].append("10.99.0.0/24")
            deployed.hosts["gpu-2"]["fleet_host"]["firewall"] = "nftables"
            found = deployed.play("firewall")
    finally:
        deployed.on("gpu-3", "mv", "/usr/sbin/nft-kept", "/usr/sbin/nft")
    assert found.code != 0
    said = " ".join(found.output.split())
    assert "host gpu-3: nftables is installed there but does not work" in said
    assert "no netlink" in said
    assert "host gpu-2: fleet_host.firewall asks for nftables, but firewalld runs there" in said
    assert {host: rules(deployed, host) for host in deployed.fleet.hosts} == before


def test_a_door_to_the_world_needs_the_runs_consent(deployed: LabFleet) -> None:
    before = rules(deployed, "gpu-0")
    with deployed.changed():
        deployed.site["access"] = [
            {"service": "rpc", "hosts": ["gpu-0"], "networks": ["0.0.0.0/0"], "public": True}
        ]
        refused = deployed.play("firewall", "--limit", "gpu-0")
        told = deployed.succeed(
            *("firewall", "--limit", "gpu-0", "--check", "--diff"),
            *("-e", "firewall_allow_public=true"),
        )
    assert refused.code != 0
    assert "host gpu-0: rpc of stage 0" in " ".join(refused.output.split())
    assert "+ip saddr 0.0.0.0/0 tcp dport" in told.output
    assert rules(deployed, "gpu-0") == before


def test_another_kind_of_firewall_leaves_no_stale_rule(
    deployed: LabFleet, expected: list[int]
) -> None:
    before = rules(deployed, "gpu-1")
    with deployed.changed():
        deployed.hosts["gpu-1"]["fleet_host"]["firewall"] = "nftables"
        deployed.succeed("firewall", "--limit", "gpu-1")
        added = deployed.on("gpu-1", "ufw", "show", "added")
        assert added.splitlines()[1:] == ["ufw allow 5000/tcp comment 'alice'"]
        assert "inactive" in deployed.on("gpu-1", "ufw", "status")
        assert "policy drop" in deployed.on("gpu-1", *_TABLE)
        assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
    back = deployed.succeed("firewall", "--limit", "gpu-1")
    assert back.count("gpu-1", "changed") == 1
    assert rules(deployed, "gpu-1") == before
    assert not deployed.runs_on("gpu-1", *_TABLE)


class Watch:
    """Tries, again and again, to log in to a host, and remembers since when it could not."""

    def __init__(self, fleet: LabFleet, host: str) -> None:
        self.out_seconds = 0.0
        self._fleet, self._host, self._ended = fleet, host, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        options = ("-o", "ConnectTimeout=1", "-o", "ControlPath=none")
        login = ssh(self._fleet.built().place, self._host, "true", options=options)
        while not self._ended.is_set():
            started = time.monotonic()
            while not succeeds(*login, seconds=10) and not self._ended.is_set():
                self.out_seconds = max(self.out_seconds, time.monotonic() - started)
            self._ended.wait(0.5)


def test_rules_that_lock_everybody_out_undo_themselves(
    deployed: LabFleet, expected: list[int]
) -> None:
    hosts = list(deployed.fleet.hosts)
    before = {host: rules(deployed, host) for host in hosts}
    with deployed.changed():
        deployed.site["operators"] = ["203.0.113.0/24"]
        with (
            Watch(deployed, "gpu-0") as nft,
            Watch(deployed, "gpu-1") as ufw,
            Watch(deployed, "gpu-2") as zones,
        ):
            found = played_with_a_power_cut(deployed)
    assert found.code != 0
    said = " ".join(found.output.split())
    for host, watch in (("gpu-0", nft), ("gpu-1", ufw), ("gpu-2", zones)):
        assert 5 < watch.out_seconds < _BACK_SECONDS, (host, found.output)
        assert f"{host}: with the new rules nobody could log in" in said
        assert "Does fleet.operators name the network" in said
    assert {host: rules(deployed, host) for host in hosts} == before
    for host in hosts:
        assert not deployed.runs_on(host, "ls", "/var/lib/stagefleet-firewall")
        assert not deployed.runs_on(host, "systemctl", "cat", "stagefleet-firewall-undo.service")
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected


def played_with_a_power_cut(fleet: LabFleet) -> Run:
    """Let a run that locks everybody out go to its end; gpu-3 loses its power meanwhile."""
    armed = ("test", "-e", "/var/lib/stagefleet-firewall/armed")
    machine = fleet.machine("gpu-3")

    def cut_power() -> None:
        deadline = time.monotonic() + 60
        while not fleet.runs_on("gpu-3", *armed):
            assert time.monotonic() < deadline
            time.sleep(0.2)  # between two looks; the deadline ends them
        while "203.0.113.0" not in fleet.on("gpu-3", *_TABLE):
            assert time.monotonic() < deadline
            time.sleep(0.1)  # between two looks; the deadline ends them
        machine.kill()
        machine.boot()
        # With the old rules, or nobody could.
        fleet.built().wait("gpu-3")

    with ThreadPoolExecutor() as pool:
        cut = pool.submit(cut_power)
        found = fleet.play("firewall")
        cut.result()
    return found
