"""What hosts say to the doctor: of four hosts that are well, to be changed by tests."""

from collections.abc import Iterable, Mapping
from typing import Any

from runtime.checks.doctor.asked import Moment, declared_ports, modules, peers
from runtime.checks.doctor.finding import Finding
from runtime.checks.doctor.judge import findings
from runtime.checks.doctor.seen import Seen, read
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from runtime.spec.plan import HostPlan, plans
from tests.support.inventories import four_hosts

GIB = 2**30
NOW = 1_800_000_000.0
BLOCK_BYTES = 100 * 2**20


def a_fleet(**site: Any) -> Fleet:
    """Return a fleet of four stages, one a host, all on a CPU."""
    networks = [{"name": "data", "cidr": "198.51.100.0/24"}]
    hosts = four_hosts(**({"serving": {"device": "cpu"}, "networks": networks} | site))
    for number, host in enumerate(hosts.values(), start=1):
        host["fleet_host"]["addresses"] = [f"198.51.100.{number}"]
    return fleet_of(hosts)


def well(fleet: Fleet, host: str) -> dict[str, Any]:
    """Return what a host says on which everything is as it should be."""
    plan = plans(fleet, {})[host]
    address = fleet.hosts[host].addresses[0]
    room: dict[str, Any] = {"read_only": False, "total": 500 * GIB, "free": 400 * GIB}
    room |= {"mount": "/", "kind": "ext4", "files": 10**7, "files_free": 9 * 10**6}
    return {
        "asked": NOW,
        "answered": NOW + 1.0,
        "time": {"start": NOW + 0.4, "end": NOW + 0.6},
        "machine": {
            "system": "debian",
            "version": "12",
            "name": "Debian 12",
            "kernel": "6.1.0",
            "processor": "x86_64",
            "python": [3, 11, 2],
            "init": "systemd",
            "cores": 8,
        },
        "modules": {
            "has_directory": True,
            "modules": dict.fromkeys(modules(fleet, host), "present"),
        },
        "clock": {"synchronised": True, "error_seconds": 0.01, "keepers": ["chronyd"]},
        "memory": {"total": 64 * GIB, "available": 60 * GIB, "swap": 0},
        "directories": [
            {"use": use, "path": f"/srv/{use}", **room} for use in ("code", "keys", "model")
        ],
        "speeds": {
            "write": {"bytes": 10**9, "seconds": 1.0},
            "read": {"bytes": 2 * 10**9, "seconds": 1.0, "direct": True},
        },
        "model": {
            "path": "/models/m",
            "there": True,
            "blocks": [BLOCK_BYTES] * 32,
            "edges": [BLOCK_BYTES] * 2,
            "dtype": "bfloat16",
        },
        "gpus": {
            "bus": "",
            "query": "",
            "table": "",
            "kernel_driver": "",
            "nouveau": False,
            "torch": None,
        },
        "cards": [
            {
                "name": "eth0",
                "address": address,
                "mtu": 9000,
                "speed": 10000,
                "duplex": "full",
                "carrier": True,
                "physical": True,
            }
        ],
        "sockets": [
            {
                "protocol": protocol,
                "address": "0.0.0.0",
                "port": port,
                "process": "python (pid 7)",
                "commands": [f"/v/bin/python -m runtime serve --config {stage.config_path}"],
            }
            for stage in plan.stages
            for protocol, port in declared_ports(fleet, host)
        ],
        "paths": {
            other: {"link": 9000, "largest": 9000, "problem": "", "milliseconds": 0.2}
            for other in peers(fleet, host)
        },
        "services": {
            stage.unit: {"state": "active", "detail": "running", "restarts": "0"}
            for stage in plan.stages
        },
        **(
            {
                "swarm": answered({"servers": [{}], "complete": True, "missing": []}),
                "token": answered(
                    {"event": "route", "route": [{}] * 4}, {"event": "end", "token_ids": [[5]]}
                ),
            }
            if plan.stages[0].stage == 0
            else {}
        ),
    }


def answered(*objects: dict[str, Any], problem: str = "") -> dict[str, Any]:
    """Return an answer of stage 0."""
    return {"problem": problem, "objects": list(objects), "seconds": 0.1}


def judged(
    fleet: Fleet,
    said: Mapping[str, dict[str, Any]],
    moment: Moment = Moment.NOW,
    hosts: Mapping[str, HostPlan] | None = None,
) -> dict[tuple[str, str, str], Finding]:
    """Return the findings by host, check and subject."""
    seen: dict[str, Seen] = {name: read(name, each) for name, each in said.items()}
    found: Iterable[Finding] = findings(fleet, hosts or plans(fleet, {}), seen, None, moment)
    return {(each.host, each.check, each.about): each for each in found}
