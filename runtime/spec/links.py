"""How one host reaches another: the nearest address of each pair, chosen once, in the plan."""

import ipaddress

from runtime.spec.base import Address, Frozen, Port
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet, Host, Stage


class Link(Frozen):
    """The way from one host to another.

    Attributes:
        address: where the target is dialled.
        via: the network's name, "same host", "public" or "direct".
        mapped: the target's public ports apply instead of its own.
        private: the inventory declares the network private, plain TCP is allowed.
    """

    address: Address
    via: str
    mapped: bool = False
    private: bool = False


def link(fleet: Fleet, source: str, target: str) -> Link:
    """Return how `source` reaches `target`, both host names of the fleet.

    The nearest way wins: the same host, then a shared network in the order of the inventory, then
    the target's public address, then its only address.

    Raises:
        SpecError: no way is declared.
    """
    here, there = fleet.hosts[source], fleet.hosts[target]
    if source == target:
        return Link(
            address=there.addresses[0] if binds_one(there) else "127.0.0.1", via="same host"
        )
    for network in fleet.networks:
        theirs = _address_in(there, network.cidr)
        if theirs is not None and _address_in(here, network.cidr) is not None:
            return Link(address=theirs, via=network.name, private=network.private)
    if there.public_ip is not None:
        return Link(address=there.public_ip, via="public", mapped=True)
    outside = [
        address
        for address in there.addresses
        if not any(_is_in(address, network.cidr) for network in fleet.networks)
    ]
    if outside:
        return Link(address=outside[0], via="direct")
    raise SpecError(
        f"host {source} cannot reach host {target}: they share no network, and {target} has no "
        "address outside its networks",
        hint=f"give {target} a fleet_host.public_ip, or both an address in one of fleet.networks",
    )


def networks_of(fleet: Fleet, host: str) -> tuple[str, ...]:
    """Return the names of the fleet's networks that a host has an address in."""
    return tuple(
        network.name
        for network in fleet.networks
        if _address_in(fleet.hosts[host], network.cidr) is not None
    )


def rpc_port(link_: Link, stage: Stage) -> Port:
    """Return the port of a stage's data plane as it is seen over this link."""
    return (link_.mapped and stage.public_rpc_port) or stage.rpc_port


def dht_port(link_: Link, stage: Stage) -> Port:
    """Return the port of a stage's discovery as it is seen over this link."""
    return (link_.mapped and stage.public_dht_port) or stage.dht_port


def binds_one(host: Host) -> bool:
    """Return whether the host's services listen on its one address, not on all interfaces."""
    return (
        host.bind == "addresses"
        and host.public_ip is None
        and len(host.addresses) == 1
        and _is_ip(host.addresses[0])
    )


def multiaddr(address: Address, port: Port, peer_id: str) -> str:
    """Return a libp2p multiaddr (https://multiformats.io/multiaddr/)."""
    if not _is_ip(address):
        return f"/dns4/{address}/tcp/{port}/p2p/{peer_id}"
    version = ipaddress.ip_address(address).version
    return f"/ip{version}/{address}/tcp/{port}/p2p/{peer_id}"


def _is_ip(address: Address) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _is_in(address: Address, cidr: str) -> bool:
    return _is_ip(address) and ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _address_in(host: Host, cidr: str) -> Address | None:
    return next((address for address in host.addresses if _is_in(address, cidr)), None)
