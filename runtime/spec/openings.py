"""What a host's own firewall lets in: the flows towards it, with the addresses they come from."""

import ipaddress
from collections.abc import Iterator

from runtime.spec.base import Cidr, Frozen, Port
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow, flows
from runtime.spec.sources import source_of


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
