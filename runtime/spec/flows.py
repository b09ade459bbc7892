"""Who may reach which service on which host: derived from the catalogue, for every firewall."""

from collections.abc import Iterator

from runtime.spec.access import is_open_to_the_world
from runtime.spec.base import Cidr, Frozen, Port
from runtime.spec.fleet import Fleet
from runtime.spec.monitoring import exporter_port, exporters
from runtime.spec.network.declared import network_of
from runtime.spec.server import Stage
from runtime.spec.services import CATALOGUE, Peers, Place, Service


class Flow(Frozen):
    """One service on one host, and the only sources that may connect to it.

    Attributes:
        owner: what owns the service, such as "stage 1", "data links" or "shares", or None for one
            of the host itself.
        port: the local port, which firewalls open.
        public_port: the port mapped to it outside, where the host is behind NAT.
        hosts: names of the fleet's hosts that may connect.
        networks: networks of people who may connect.
        public: these networks are open to the world, and the inventory says that this is meant.
    """

    host: str
    service: str
    owner: str | None
    protocol: str
    port: Port
    public_port: Port | None
    hosts: tuple[str, ...] = ()
    networks: tuple[Cidr, ...] = ()
    public: bool = False

    @property
    def purpose(self) -> str:
        """What the port is for, as rules and tables say it."""
        return self.service if self.owner is None else f"{self.service} of {self.owner}"


def flows(fleet: Fleet) -> tuple[Flow, ...]:
    """Return every flow of the fleet; what no flow names stays closed.

    Traffic of a host to itself needs no flow and has none.
    """
    stages = fleet.stages
    return tuple(flow for service in CATALOGUE for flow in _flows_of(fleet, stages, service))


def _flows_of(fleet: Fleet, stages: tuple[Stage, ...], service: Service) -> Iterator[Flow]:
    if service.reached_from is Peers.SAME_HOST:
        return
    if service.reached_from is Peers.MONITORING:
        yield from _flows_of_exporters(fleet, service)
        return
    if service.runs_on is Place.LINKED:
        yield from _of_links(fleet, service)
        return
    if service.runs_on is Place.EVERY_HOST:
        for name, host in fleet.hosts.items():
            networks = _networks(fleet, service, name)
            yield Flow(
                host=name,
                service=service.name,
                owner=None,
                protocol=service.protocol,
                port=getattr(host.ports, service.name),
                public_port=None,
                networks=networks,
                public=is_open_to_the_world(networks),
            )
        return
    if service.reached_from is Peers.READERS:
        yield from _flows_of_shares(fleet, service)
        return
    peers = _Peers(stages)
    for stage in stages:
        hosts = peers.of(stage, service)
        networks = _networks(fleet, service, stage.host)
        if hosts or networks:
            yield Flow(
                host=stage.host,
                service=service.name,
                owner=stage.title,
                protocol=service.protocol,
                port=getattr(stage, f"{service.name}_port"),
                public_port=getattr(stage, f"public_{service.name}_port"),
                hosts=hosts,
                networks=networks,
                public=is_open_to_the_world(networks),
            )


def _flows_of_exporters(fleet: Fleet, service: Service) -> Iterator[Flow]:
    """Yield who takes metrics: the declared ones, and on the same host nobody needs a flow."""
    for name in fleet.hosts:
        for exporter in exporters(fleet, name):
            if exporter.service is service and fleet.monitoring is not None:
                networks = fleet.monitoring.networks
                hosts = tuple(sorted({*fleet.monitoring.hosts} - {name}))
                if hosts or networks:
                    yield Flow(
                        host=name,
                        service=service.name,
                        owner=None,
                        protocol=service.protocol,
                        port=exporter_port(fleet, name, exporter),
                        public_port=None,
                        hosts=hosts,
                        networks=networks,
                    )


def _of_links(fleet: Fleet, service: Service) -> Iterator[Flow]:
    for name, host in fleet.hosts.items():
        neighbours = neighbours_of(fleet, name)
        if neighbours:
            yield Flow(
                host=name,
                service=service.name,
                owner="data links",
                protocol=service.protocol,
                port=getattr(host.ports, service.name),
                public_port=None,
                hosts=neighbours,
            )


def neighbours_of(fleet: Fleet, host: str) -> tuple[str, ...]:
    """Return the hosts that are on a link of a host, by name."""
    own = [network_of(each.address, fleet.networks) for each in fleet.hosts[host].links]
    return tuple(
        name
        for name, other in sorted(fleet.hosts.items())
        if name != host
        and any(network_of(each.address, fleet.networks) in own for each in other.links)
    )


def _flows_of_shares(fleet: Fleet, service: Service) -> Iterator[Flow]:
    for name, host in fleet.hosts.items():
        shares = [
            share
            for share in fleet.shares or ()
            if share.host == name and share.protocol == service.name
        ]
        networks = _networks(fleet, service, name)
        if shares:
            yield Flow(
                host=name,
                service=service.name,
                owner="shares",
                protocol=service.protocol,
                port=getattr(host.ports, service.name),
                public_port=None,
                hosts=tuple(sorted({reader for share in shares for reader in share.readers})),
                networks=networks,
                public=is_open_to_the_world(networks),
            )


class _Peers:
    """The hosts of the stages that connect to a stage."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages
        # Made once: there may be thousands of stages, and each of them is a peer of all others.
        self._everybody = tuple(sorted({stage.host for stage in stages}))
        self._place = {host: number for number, host in enumerate(self._everybody)}
        # Of servers that choose their blocks, each may be the next one of any other.
        self._is_balanced = any(stage.is_balanced for stage in stages)

    def of(self, stage: Stage, service: Service) -> tuple[str, ...]:
        if service.reached_from is Peers.SWARM or self._is_balanced:
            place = self._place[stage.host]
            return self._everybody[:place] + self._everybody[place + 1 :]
        upstream = {other.host for other in _upstream(self._stages, stage)}
        return tuple(sorted(upstream - {stage.host}))


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
