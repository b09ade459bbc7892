"""From which addresses a flow's hosts are seen to come: what firewalls have to let in."""

import ipaddress
from collections.abc import Iterator

from runtime.spec.access import is_private
from runtime.spec.base import Cidr, Frozen, Port
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow, flows
from runtime.spec.links import Link, link


class Opening(Frozen):
    """One line of a firewall: what may come in from where, and what for.

    Attributes:
        source: the network, in its canonical form.
        purpose: the service, as rules and tables call it.
    """

    protocol: str
    port: Port
    source: Cidr
    purpose: str


def source_of(fleet: Fleet, source: str, target: str) -> Cidr:
    """Return the address that connections of `source` come from, as `target` sees them.

    A private public_ip is taken at its word: it may be that of a router inside a building.

    Raises:
        SpecError: the inventory does not say it.
    """
    # The way back: where packets of an address come from is where answers to it go.
    return _address_of(link(fleet, target, source), source, target)


def source_by(way: Link, source: str, target: str) -> Cidr:
    """Return what `source_of` does for a target in a cloud; `way` leads from it to `source`.

    Raises:
        SpecError: the address is a name, or nobody outside can have it.
    """
    cidr = _address_of(way, source, target)
    if way.via in {"public", "direct"} and way.mapped and is_private(cidr):
        raise SpecError(
            f"host {source} has the public_ip {way.address}, which is private: {target}, which "
            "shares no network with it, never sees it come from there",
            hint="name the address that the outside sees, or the network that both share",
        )
    return cidr


def _address_of(way: Link, source: str, target: str) -> Cidr:
    try:
        address = ipaddress.ip_address(way.address)
    except ValueError:
        raise SpecError(
            f"host {source} is known by its name {way.address} only, and the firewall of "
            f"{target} must know the address it comes from",
            hint=f"give {source} a fleet_host.public_ip, or addresses",
        ) from None
    return f"{address}/{address.max_prefixlen}"


def openings(fleet: Fleet) -> dict[str, tuple[Opening, ...]]:
    """Return for every host what its own firewall lets in; everything else stays out.

    Raises:
        SpecError: from where a host comes is not known.
    """
    found: dict[str, set[Opening]] = {name: set() for name in fleet.hosts}
    for flow in flows(fleet):
        found[flow.host].update(_openings_of(fleet, flow))
    return {name: tuple(sorted(each, key=opening_order)) for name, each in found.items()}


def opening_order(opening: Opening) -> tuple[str, int, int, str]:
    """Return what to sort by: the port, then the source."""
    version = ipaddress.ip_network(opening.source).version
    return (opening.protocol, opening.port, version, opening.source)


def _openings_of(fleet: Fleet, flow: Flow) -> Iterator[Opening]:
    sources = (*flow.networks, *(source_of(fleet, host, flow.host) for host in flow.hosts))
    for source in sources:
        yield Opening(protocol=flow.protocol, port=flow.port, source=source, purpose=flow.purpose)
