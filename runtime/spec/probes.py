"""How the flows are proven: who dials which port where, and whether it should get in."""

import ipaddress
from collections.abc import Iterator, Mapping

from runtime.spec.base import Address, Frozen, Port
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow, flows
from runtime.spec.host import Host
from runtime.spec.links import Link, binds_one, link
from runtime.spec.services import GATEWAY, SSH
from runtime.spec.sources import source_of

OPERATOR = "operator"
"""Where playbooks are run: a source like a host, which is in the networks of operators."""


class Probe(Frozen):
    """One attempt to connect.

    Attributes:
        id: names it within a fleet.
        source: the host that dials, or OPERATOR.
        host: the host that is dialled.
        port: the local port that this is about, at which the host listens.
        purpose: the service, as tables call it.
        address, dialled: where the source dials.
        via: the network on the way, "public" or "direct".
        expected: a row of the plan lets the source in.
    """

    id: str
    source: str
    host: str
    protocol: str
    port: Port
    purpose: str
    address: Address
    dialled: Port
    via: str
    expected: bool


class Listener(Frozen):
    """A port at which a host should listen.

    Attributes:
        address: the address its service binds.
    """

    protocol: str
    address: Address
    port: Port
    purpose: str


def listeners(fleet: Fleet) -> dict[str, tuple[Listener, ...]]:
    """Return for every host the ports that its flows lead to."""
    found: dict[str, list[Listener]] = {name: [] for name in fleet.hosts}
    for flow in flows(fleet):
        host = fleet.hosts[flow.host]
        bind = host.addresses[0] if flow.owner is not None and binds_one(host) else "0.0.0.0"  # noqa: S104 - as services bind
        found[flow.host].append(
            Listener(protocol=flow.protocol, address=bind, port=flow.port, purpose=flow.purpose)
        )
    return {name: tuple(each) for name, each in found.items()}


def probes(fleet: Fleet, connections: Mapping[str, tuple[Address, Port]]) -> tuple[Probe, ...]:
    """Return what has to be tried: every declared source of a flow, and one that is not declared.

    Args:
        fleet: the fleet.
        connections: for each host, where the operator's SSH connects to.
    """
    found = [*_of_flows(fleet, connections), *_of_loopback(fleet)]
    return tuple(probe.model_copy(update={"id": str(number)}) for number, probe in enumerate(found))


def _of_flows(fleet: Fleet, connections: Mapping[str, tuple[Address, Port]]) -> Iterator[Probe]:
    for flow in flows(fleet):
        for source in flow.hosts:
            yield _probe(fleet, flow, source, expected=True)
        stranger = next(_strangers(fleet, flow), None)
        if stranger is not None:
            yield _probe(fleet, flow, stranger, expected=False)
        yield from _of_operator(fleet, flow, connections[flow.host])


def _of_operator(fleet: Fleet, flow: Flow, connection: tuple[Address, Port]) -> Iterator[Probe]:
    """Yield the operator's own try: the way in that must stay, or one more stranger's."""
    address, ssh = connection
    host = fleet.hosts[flow.host]
    mapped = address == host.public_ip
    if flow.service == SSH.name:
        dialled, expected = ssh, True
    else:
        dialled = (mapped and flow.public_port) or flow.port
        # From where an operator is seen to come, the inventory does not say: where people are
        # let in as well, nothing follows from an answer.
        if flow.networks:
            return
        expected = False
    yield Probe(
        id="",
        source=OPERATOR,
        host=flow.host,
        protocol=flow.protocol,
        port=flow.port,
        purpose=flow.purpose,
        address=address,
        dialled=dialled,
        via="public" if mapped else "operator",
        expected=expected,
    )


def _of_loopback(fleet: Fleet) -> Iterator[Probe]:
    """Yield tries of what listens on loopback only: nobody gets there from another host."""
    first = next(stage for stage in fleet.stages if stage.stage == 0)
    for source in fleet.hosts:
        if source == first.host:
            continue
        way = _way(fleet, source, first.host)
        # Behind NAT, a port that is not mapped leads nowhere.
        if way is not None and not way.mapped:
            host: Host = fleet.hosts[first.host]
            yield Probe(
                id="",
                source=source,
                host=first.host,
                protocol=GATEWAY.protocol,
                port=host.ports.gateway,
                purpose=GATEWAY.name,
                address=way.address,
                dialled=host.ports.gateway,
                via=way.via,
                expected=False,
            )
            return


def _probe(fleet: Fleet, flow: Flow, source: str, expected: bool) -> Probe:
    way = link(fleet, source, flow.host)
    return Probe(
        id="",
        source=source,
        host=flow.host,
        protocol=flow.protocol,
        port=flow.port,
        purpose=flow.purpose,
        address=way.address,
        dialled=(way.mapped and flow.public_port) or flow.port,
        via=way.via,
        expected=expected,
    )


def _strangers(fleet: Fleet, flow: Flow) -> Iterator[str]:
    """Yield the hosts that no row lets in, and that know a way to the port."""
    for source in sorted(fleet.hosts):
        if source == flow.host or source in flow.hosts:
            continue
        way = _way(fleet, source, flow.host)
        if way is None or (way.mapped and flow.public_port is None and flow.service == SSH.name):
            continue
        try:
            address = ipaddress.ip_network(source_of(fleet, source, flow.host))
        except SpecError:
            continue
        if not any(_covers(network, address) for network in flow.networks):
            yield source


def _covers(network: str, address: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    around = ipaddress.ip_network(network)
    return around.version == address.version and address.subnet_of(around)  # type: ignore[arg-type]  # of one version


def _way(fleet: Fleet, source: str, target: str) -> Link | None:
    try:
        return link(fleet, source, target)
    except SpecError:
        return None
