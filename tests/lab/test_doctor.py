"""The doctor on hosts that are well, and on hosts with one fault each."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab import fault
from runtime.spec.monitoring import exporter_directory
from tests.support.lab import NAME, LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_TAKEN = 9200
_AHEAD_SECONDS = 300
# Containers share this machine's clock and cannot set it: their Python is told another time.
_EARLY = (
    f"import time\n_now = time.time\ntime.time = lambda: _now() + {_AHEAD_SECONDS}\n",
    '#!/bin/sh\nPYTHONPATH=/opt/early exec /usr/bin/python3 "$@"\n',
)

# What apt and dpkg note of packages that have come and gone.
_BOOKS = ("var/cache/apt", "var/lib/apt", "var/lib/dpkg")
_KEPT = "/var/tmp/books.tar"

Findings = dict[tuple[str, str, str], dict[str, Any]]


def examined(fleet: LabFleet, *arguments: str) -> tuple[int, Findings, dict[str, Any]]:
    """Return how the doctor ends, its findings by host, check and subject, and its report."""
    asked = fleet.stagefleet("doctor", "-i", str(fleet.inventory), "--json", *arguments)
    said, problem = asked.communicate(timeout=300)
    assert said, problem
    report = json.loads(said)
    found = {(each["host"], each["check"], each["about"]): each for each in report["findings"]}
    return asked.returncode, found, report


def lacking() -> str:
    """Return a module that the kernel does not have: of the containers, so of this machine."""
    names = ("wireguard", "rdma_rxe", "sch_netem", "zram")
    return next(name for name in names if not Path("/sys/module", name).exists())


def test_hosts_that_are_well(deployed: LabFleet) -> None:
    code, found, report = examined(deployed)
    failed = [each for each in report["findings"] if each["verdict"] == "fail"]
    assert failed == []
    assert code in (0, 1)
    assert "over 4 stages" in found["gpu-0", "pipeline.token", ""]["evidence"]
    assert "every block is served" in found["gpu-0", "swarm.view", ""]["evidence"]
    # Both ways over the data link, jumbo frames, and to the rented host over the other one.
    path = found["gpu-0", "path.mtu", "gpu-1"]
    assert (path["verdict"], path["evidence"].split()[0]) == ("ok", "9000")
    assert found["gpu-3", "path.mtu", "gpu-0"]["evidence"].split()[0] == "1500"
    for host in ("gpu-0", "gpu-1", "gpu-2", "gpu-3"):
        assert found[host, "host.reached", ""]["verdict"] == "ok"
        assert found[host, "clock.offset", ""]["verdict"] == "ok"
        assert found[host, "disk.room", "/"]["verdict"] == "ok"
        assert found[host, "os.modules", "nf_tables"]["verdict"] == "ok"
        assert "stagefleet-port" not in deployed.on(host, "ps", "-eo", "comm")


def test_each_fault_is_found_where_it_is_with_its_remedy(at_risk: LabFleet) -> None:
    module = lacking()
    at_risk.on("gpu-3", "mkdir", "/opt/early")
    for path, text in zip(
        ("/opt/early/sitecustomize.py", "/opt/early/python"), _EARLY, strict=True
    ):
        at_risk.on("gpu-3", "sh", "-c", f"printf '%s' '{text}' >{path}; chmod 755 {path}")
    before = at_risk.pids()
    with at_risk.changed():
        at_risk.site["doctor"] = {"modules": [module]}
        at_risk.hosts["gpu-2"]["fleet_host"]["stages"] = [{"stage": 2, "rpc_port": _TAKEN}]
        at_risk.hosts["gpu-3"]["ansible_python_interpreter"] = "/opt/early/python"
        fault.take_port(at_risk.machine("gpu-2"), _TAKEN)
        fault.fill(at_risk.machine("gpu-1"))
        try:
            code, found, _ = examined(at_risk)
            refused = at_risk.play("site")
        finally:
            fault.empty(at_risk.machine("gpu-1"))
            fault.release_port(at_risk.machine("gpu-2"), _TAKEN)
            at_risk.on("gpu-3", "rm", "-r", "/opt/early")
    assert code == 2
    failed = {key for key, each in found.items() if each["verdict"] == "fail"}

    full = found["gpu-1", "disk.room", "/"]
    # Whoever writes a log meanwhile gives some of its room back.
    assert full["evidence"].split()[1].startswith(("B", "KiB"))
    assert "find what fills it" in full["remedy"]
    assert {host for host, check, _ in failed if check == "disk.room"} == {"gpu-1"}

    taken = found["gpu-2", "ports.free", f"{_TAKEN}/tcp"]
    assert f"port {_TAKEN} (rpc of stage 2) is taken by 'python3 -c" in taken["evidence"].replace(
        "/usr/bin/", ""
    )
    assert "or give this service another port" in taken["remedy"]
    assert {host for host, check, _ in failed if check == "ports.free"} == {"gpu-2"}

    clock = found["gpu-3", "clock.offset", ""]
    seconds, direction = clock["evidence"].split(" s ")[:2]
    assert abs(float(seconds) - _AHEAD_SECONDS) < 5
    assert direction.startswith("ahead of")
    assert "chrony" in clock["remedy"]
    assert {host for host, check, _ in failed if check == "clock.offset"} == {"gpu-3"}

    missing = found["gpu-0", "os.modules", module]
    assert f"the module {module} is neither in kernel" in missing["evidence"]
    assert f"modprobe {module}" in missing["remedy"]

    # A deployment does not begin on such hosts, and says why.
    assert refused.code != 0
    assert f"port {_TAKEN} (rpc of stage 2) is taken by" in " ".join(refused.output.split())
    assert all(refused.count(host, "changed") == 0 for host in before)
    assert at_risk.pids() == before

    _, _, mended = examined(at_risk)
    changes = {
        (each["host"], each["check"], each["about"]): (each["before"], each["now"])
        for each in mended["changes"]
    }
    assert changes["gpu-1", "disk.room", "/"] == ("fail", "ok")
    assert changes["gpu-3", "clock.offset", ""] == ("fail", "ok")


def test_metrics_are_told_to_the_declared_host_only_and_nothing_of_it_stays(
    deployed: LabFleet,
) -> None:
    hosts = ("gpu-0", "gpu-1")
    both = ("--limit", ",".join(hosts))
    before = deployed.files("gpu-1")
    for host in hosts:
        deployed.on(host, "tar", "-C", "/", "-cpf", _KEPT, *_BOOKS)
    with deployed.changed():
        deployed.site["monitoring"] = {"hosts": ["gpu-0"]}
        assert deployed.succeed("monitoring", "--check", *both).count("gpu-1", "changed") > 0
        assert deployed.changes("gpu-1", before) == {}
        deployed.succeed("firewall", "--limit", "gpu-1")
        deployed.succeed("monitoring", *both)
        again = deployed.succeed("monitoring", *both)
        assert {again.count(host, "changed") for host in ("gpu-0", "gpu-1")} == {0}
        told = deployed.on("gpu-0", "cat", f"{exporter_directory(NAME)}/scrape-targets.json")
        (target,) = (
            each["targets"][0] for each in json.loads(told) if each["labels"]["host"] == "gpu-1"
        )
        address, _, port = target.partition(":")
        ask = f"import urllib.request as u; print(u.urlopen('http://{target}/metrics').read())"
        assert "node_load1" in deployed.on("gpu-0", "python3", "-c", ask)
        assert not deployed.connects("gpu-2", address, int(port))
    deployed.succeed("monitoring", *both)
    deployed.succeed("firewall", "--limit", "gpu-1")
    left = deployed.changes("gpu-1", before)
    # What apt knows of its sources, and its own bookkeeping.
    assert {path for path in left if not path.startswith(("/var/lib/apt", "/var/cache"))} <= {
        "/var/lib/dpkg/status",
        "/var/lib/dpkg/status-old",
    }
    # The tests behind this one find these as they were, too.
    for host in hosts:
        books = " ".join(f"/{path}" for path in _BOOKS)
        deployed.on(host, "sh", "-c", f"rm -r {books} && tar -C / -xpf {_KEPT} && rm {_KEPT}")
