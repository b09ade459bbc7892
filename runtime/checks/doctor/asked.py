"""What the doctor asks: the program that runs on hosts, and each host's request to it."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from runtime.checks import probe
from runtime.checks.doctor import on_host
from runtime.spec.doctor import FIREWALL_MODULES, NVIDIA_MODULES
from runtime.spec.errors import SpecError
from runtime.spec.firewall import why_unguarded
from runtime.spec.fleet import Fleet
from runtime.spec.links import Link, link
from runtime.spec.monitoring import exporter_port, exporters
from runtime.spec.plan import HostPlan
from runtime.spec.services import DHT, GATEWAY, LOOPBACK, RPC


class Moment(StrEnum):
    """When the doctor is asked."""

    BEFORE = "before"
    NOW = "now"


PROMPT: Final = "The"
CODE: Final = "code"
"""What the directory of releases and environments is called in requests."""
# In the order in which they import each other.
_MODULES: Final = ("machine", "disks", "gpus", "network", "services", "pipeline", "look")
# Makes modules of the texts, as if the project were installed there.
_LOADER: Final = """
import sys, types
def load(name, text):
    above = ""
    for part in name.split("."):
        below = f"{above}.{part}" if above else part
        if below not in sys.modules:
            sys.modules[below] = types.ModuleType(below)
            sys.modules[below].__path__ = []
            if above:
                setattr(sys.modules[above], part, sys.modules[below])
        above = below
    exec(compile(text, name, "exec"), sys.modules[name].__dict__)
    return sys.modules[name]
for name, text in SOURCES.items():
    module = load(name, text)
module.main()
"""


def program() -> str:
    """Return the program, for `python -c`; it reads a request and prints what it saw."""
    directory = Path(on_host.__file__).parent
    sources = {probe.__name__: Path(probe.__file__).read_text(encoding="utf-8")}
    for name in _MODULES:
        text = (directory / f"{name}.py").read_text(encoding="utf-8")
        sources[f"{on_host.__name__}.{name}"] = text
    return f"SOURCES = {json.dumps(sources)}\n{_LOADER}"


def requests(
    fleet: Fleet, plans: Mapping[str, HostPlan], moment: Moment
) -> dict[str, dict[str, Any]]:
    """Return what each host is asked.

    Args:
        fleet: the fleet.
        plans: the plan of each host.
        moment: before a deployment, nothing is asked that the deployment itself decides.
    """
    return {name: _request(fleet, plan, moment) for name, plan in plans.items()}


def modules(fleet: Fleet, host: str) -> tuple[str, ...]:
    """Return the kernel modules that a host must have."""
    guarded = not why_unguarded(fleet, host)
    return tuple(
        dict.fromkeys(
            (
                *(FIREWALL_MODULES if guarded else ()),
                *(NVIDIA_MODULES if wants_gpu(fleet, host) else ()),
                *fleet.doctor.modules,
            )
        )
    )


def wants_gpu(fleet: Fleet, host: str) -> bool:
    """Return whether the inventory says that a server of this host computes on an NVIDIA GPU."""
    return any(stage.device.startswith("cuda") for stage in fleet.stages if stage.host == host)


def declared_ports(fleet: Fleet, host: str) -> dict[tuple[str, int], str]:
    """Return the ports that services of a host will listen on, with what they are for."""
    found: dict[tuple[str, int], str] = {}
    for stage in fleet.stages:
        if stage.host == host:
            found[DHT.protocol, stage.dht_port] = f"{DHT.name} of {stage.title}"
            found[RPC.protocol, stage.rpc_port] = f"{RPC.name} of {stage.title}"
            if stage.name == "stage-0":
                found[GATEWAY.protocol, fleet.hosts[host].ports.gateway] = GATEWAY.name
    for exporter in exporters(fleet, host):
        port = exporter_port(fleet, host, exporter)
        found[exporter.service.protocol, port] = exporter.service.name
    return found


def peers(fleet: Fleet, host: str) -> dict[str, Link]:
    """Return by name the hosts that a host's servers talk to, and how it reaches each."""
    running = {stage.host for stage in fleet.stages}
    found = {}
    for other in sorted(running - {host}) if host in running else ():
        try:
            found[other] = link(fleet, host, other)
        except SpecError:
            # A plan exists, so these two need no way.
            continue
    return found


def _request(fleet: Fleet, plan: HostPlan, moment: Moment) -> dict[str, Any]:
    host = plan.host
    runs = bool(plan.stages)
    units = [stage.unit for stage in plan.stages]
    found: dict[str, Any] = {
        "machine": True,
        "modules": modules(fleet, host),
        "clock": True,
        "memory": True,
        "cards": fleet.hosts[host].addresses,
        "sockets": [
            {"protocol": protocol, "port": port} for protocol, port in declared_ports(fleet, host)
        ],
    }
    if runs:
        found |= {
            "directories": _directories(fleet, plan),
            "speeds": {"write": plan.paths.code, "read": fleet.model.path},
            "model": fleet.model.path,
            "gpus": {
                "units": [
                    *(f"{plan.paths.systemd}/{unit}.service" for unit in units),
                    *(f"{plan.paths.units}/{unit}.ini" for unit in units),
                ],
                "ask": wants_gpu(fleet, host),
            },
            "paths": [
                {"id": other, "address": way.address} for other, way in peers(fleet, host).items()
            ],
            "services": {
                "names": units,
                "systemd": plan.paths.systemd,
                "supervisord": plan.paths.run,
            },
        }
    if moment is Moment.NOW and any(stage.name == "stage-0" for stage in plan.stages):
        gateway = {"url": f"http://{LOOPBACK}:{fleet.hosts[host].ports.gateway}"}
        found |= {"swarm": gateway, "token": {**gateway, "prompt": PROMPT}}
    return found


def _directories(fleet: Fleet, plan: HostPlan) -> dict[str, str]:
    return {
        CODE: plan.paths.code,
        "configurations": plan.paths.config,
        "keys": plan.paths.identity,
        "cache": plan.paths.cache,
        "model": fleet.model.path,
        "temporary files": "/tmp",  # noqa: S108 - looked at only
    }
