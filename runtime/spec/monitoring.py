"""Who may take a fleet's metrics, and what takes them: exporters, their flows, scrape targets."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pydantic import Field

from runtime.spec.access import is_open_to_the_world
from runtime.spec.base import Cidr, Frozen
from runtime.spec.services import GPU_EXPORTER, NODE_EXPORTER, Service

if TYPE_CHECKING:
    from runtime.spec.fleet import Fleet


class Monitoring(Frozen):
    """Where a Prometheus server takes the hosts' metrics from; nobody else can."""

    hosts: tuple[str, ...] = Field(
        default=(), description="hosts of the fleet on which a Prometheus server runs"
    )
    networks: tuple[Cidr, ...] = Field(
        default=(), description="networks from which one elsewhere comes"
    )
    gpus: tuple[str, ...] | None = Field(
        default=None,
        description="hosts whose GPUs have metrics too; default: those with a server whose device "
        "is cuda",
    )


class Exporter(Frozen):
    """A program that says metrics, from a package of the distribution or of NVIDIA.

    Attributes:
        service: its row in the catalogue.
        package, unit: of apt and of systemd.
        program: its file.
        account: the one that its package makes and leaves behind; empty if it makes none.
        environment: how it is told where to listen, as systemd's Environment=; {port} is its port.
    """

    service: Service
    package: str
    unit: str
    account: str
    program: str
    environment: str


NODE: Final = Exporter(
    service=NODE_EXPORTER,
    package="prometheus-node-exporter",
    unit="prometheus-node-exporter",
    account="prometheus",
    program="/usr/bin/prometheus-node-exporter",
    environment="ARGS=--web.listen-address=:{port}",
)
# Of NVIDIA's repository, which the host must have: Debian has none for NVIDIA's GPUs.
GPU: Final = Exporter(
    service=GPU_EXPORTER,
    package="datacenter-gpu-manager-exporter",
    unit="nvidia-dcgm-exporter",
    account="",
    program="/usr/bin/dcgm-exporter",
    environment="DCGM_EXPORTER_LISTEN=:{port}",
)
EXPORTERS: Final = (NODE, GPU)


class ExporterPlan(Frozen):
    """An exporter as a host should have it: what the role `exporter` is given."""

    package: str
    unit: str
    account: str
    environment: str


def exporter_directory(fleet: str) -> str:
    """Return where a host notes what was brought to it for a fleet, and Prometheus finds targets.

    Apart from the fleet's other directories, which Prometheus' account may not enter.
    """
    return f"/var/lib/stagefleet-exporters-{fleet}"


def exporters(fleet: "Fleet", host: str) -> tuple[Exporter, ...]:
    """Return the exporters of a host."""
    if fleet.monitoring is None:
        return ()
    gpus = fleet.monitoring.gpus
    if gpus is None:
        gpus = tuple(stage.host for stage in fleet.stages if stage.device.startswith("cuda"))
    return EXPORTERS if host in gpus else (NODE,)


def exporter_port(fleet: "Fleet", host: str, exporter: Exporter) -> int:
    """Return where an exporter of a host listens."""
    found: int = getattr(fleet.hosts[host].ports, exporter.service.name)
    return found


def exporter_plans(fleet: "Fleet", host: str) -> tuple[ExporterPlan, ...]:
    """Return what a host's exporters should be."""
    return tuple(
        ExporterPlan(
            package=each.package,
            unit=each.unit,
            account=each.account,
            environment=each.environment.format(port=exporter_port(fleet, host, each)),
        )
        for each in exporters(fleet, host)
    )


def monitoring_problems(
    monitoring: Monitoring | None, hosts: Collection[str], scope: str
) -> Iterator[str]:
    """Yield what is wrong: unknown hosts, nobody who takes metrics, nobody who may install."""
    if monitoring is None:
        return
    if scope != "system":
        yield (
            "fleet.monitoring is given, but install.scope is user: only root can install "
            "exporters; leave it out, or use scope system"
        )
    if not monitoring.hosts and not monitoring.networks:
        yield (
            "fleet.monitoring lets nobody take metrics: name in hosts or networks where the "
            "Prometheus server is"
        )
    if is_open_to_the_world(monitoring.networks):
        yield (
            f"monitoring.networks: {', '.join(monitoring.networks)} is open to the world, and "
            "metrics never are; name the addresses that the Prometheus server comes from"
        )
    for key, names in (("hosts", monitoring.hosts), ("gpus", monitoring.gpus or ())):
        for name in names:
            if name not in hosts:
                near = difflib.get_close_matches(name, hosts, n=1)
                advice = f"; did you mean '{near[0]}'?" if near else ""
                yield f"monitoring.{key}: '{name}' is no host of the fleet{advice}"


def scrape_targets(fleet: "Fleet", addresses: Mapping[str, str]) -> list[dict[str, object]]:
    """Return what Prometheus reads by file_sd_configs: one group a target, with its labels.

    Args:
        fleet: the fleet.
        addresses: where each host is reached from where Prometheus runs.
    """
    return [
        {
            "targets": [f"{_bracketed(addresses[host])}:{exporter_port(fleet, host, each)}"],
            "labels": {
                "fleet": fleet.name,
                "host": host,
                "job": each.service.name,
                "stages": ",".join(stage.name for stage in fleet.stages if stage.host == host),
            },
        }
        for host in sorted(fleet.hosts)
        if host in addresses
        for each in exporters(fleet, host)
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
