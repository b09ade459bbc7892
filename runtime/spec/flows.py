"""Who may reach which service on which host: derived from the catalogue, for every firewall."""

from collections.abc import Iterator

from runtime.spec.access import is_open_to_the_world
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
        public: these networks are open to the world, and the inventory says that this is meant.
    """

    host: str
    service: str
    stage: int | None
    protocol: str
    port: Port
    public_port: Port | None
    hosts: tuple[str, ...] = ()
    networks: tuple[Cidr, ...] = ()
    public: bool = False

    @property
    def purpose(self) -> str:
        """What the port is for, as rules and tables say it."""
        return self.service if self.stage is None else f"{self.service} of stage {self.stage}"


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
            networks = _networks(fleet, service, name)
            yield Flow(
                host=name,
                service=service.name,
                stage=None,
                protocol=service.protocol,
                port=getattr(host.ports, service.name),
                public_port=None,
                networks=networks,
                public=is_open_to_the_world(networks),
            )
        return
    stages = fleet.stages
    # Made once: there may be thousands of stages, and each of them is a peer of all others.
    everybody = sorted({stage.host for stage in stages})
    for stage in stages:
        if service.reached_from is Peers.SWARM:
            hosts = tuple(host for host in everybody if host != stage.host)
        else:
            upstream = {other.host for other in _upstream(stages, stage)}
            hosts = tuple(sorted(upstream - {stage.host}))
        networks = _networks(fleet, service, stage.host)
        if hosts or networks:
            yield Flow(
                host=stage.host,
                service=service.name,
                stage=stage.stage,
                protocol=service.protocol,
                port=getattr(stage, f"{service.name}_port"),
                public_port=getattr(stage, f"public_{service.name}_port"),
                hosts=hosts,
                networks=networks,
                public=is_open_to_the_world(networks),
            )


def _upstream(stages: tuple[Stage, ...], stage: Stage) -> tuple[Stage, ...]:
    """Return the stages that send to this one."""
    if stage.stage == 0:
        return stages[-1:]
    return (stages[0], stages[stage.stage - 1])


def _networks(fleet: Fleet, service: Service, host: str) -> tuple[Cidr, ...]:
    """Return the networks from which people may reach a service of a host."""
    own = fleet.operators if service.reached_from is Peers.OPERATORS else ()
    more = [
        cidr
        for row in fleet.access
        if row.service == service.name and (not row.hosts or host in row.hosts)
        for cidr in row.networks
    ]
    return tuple(dict.fromkeys((*own, *more)))
