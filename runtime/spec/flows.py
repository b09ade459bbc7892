"""Who may reach which service on which host: derived from the catalogue, for every firewall."""

from collections.abc import Iterator

from runtime.spec.base import Cidr, Frozen, Port
from runtime.spec.fleet import Fleet, Stage
from runtime.spec.services import CATALOGUE, Peers, Place, Service


class Flow(Frozen):
    """One service on one host, and the only sources that may connect to it.

    Attributes:
        stage: the stage that owns the service, or None for a service of the host.
        port: the local port, which firewalls open.
        public_port: the port mapped to it outside, where the host is behind NAT.
        hosts: names of the fleet's hosts that may connect.
        networks: networks of people who may connect.
    """

    host: str
    service: str
    stage: int | None
    protocol: str
    port: Port
    public_port: Port | None
    hosts: tuple[str, ...] = ()
    networks: tuple[Cidr, ...] = ()


def flows(fleet: Fleet) -> tuple[Flow, ...]:
    """Return every flow of the fleet; what no flow names stays closed.

    Traffic of a host to itself needs no flow and has none.
    """
    return tuple(flow for service in CATALOGUE for flow in _flows_of(fleet, service))


def _flows_of(fleet: Fleet, service: Service) -> Iterator[Flow]:
    if service.reached_from is Peers.SAME_HOST:
        return
    if service.runs_on is Place.EVERY_HOST:
        for name, host in fleet.hosts.items():
            yield Flow(
                host=name,
                service=service.name,
                stage=None,
                protocol=service.protocol,
                port=getattr(host.ports, service.name),
                public_port=None,
                networks=fleet.operators,
            )
        return
    for stage in fleet.stages:
        sources = {peer.host for peer in _peers(fleet, stage, service)} - {stage.host}
        if sources:
            yield Flow(
                host=stage.host,
                service=service.name,
                stage=stage.stage,
                protocol=service.protocol,
                port=getattr(stage, f"{service.name}_port"),
                public_port=getattr(stage, f"public_{service.name}_port"),
                hosts=tuple(sorted(sources)),
            )


def _peers(fleet: Fleet, stage: Stage, service: Service) -> tuple[Stage, ...]:
    """Return the stages that connect to a service of this stage."""
    stages = fleet.stages
    if service.reached_from is Peers.SWARM:
        return tuple(other for other in stages if other != stage)
    if stage.stage == 0:
        return stages[-1:]
    return tuple({stages[0], stages[stage.stage - 1]})
