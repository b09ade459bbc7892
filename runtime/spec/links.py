"""How one host reaches another: the nearest address of each pair, chosen once, in the plan."""

import ipaddress
from collections.abc import Iterable

from runtime.spec.base import Address, Frozen, Port
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.host import Host
from runtime.spec.server import Stage


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
    the cloud that both were made in, then the target's public address, then its only address.

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
    if are_neighbours(fleet, source, target) and there.addresses:
        return Link(address=there.addresses[0], via=str(there.cloud))
    if there.public_ip is not None:
        return Link(address=there.public_ip, via="public", mapped=True)
    outside = [
        address
        for address in there.addresses
        if not any(_is_in(address, network.cidr) for network in fleet.networks)
    ]
    if outside:
        return Link(address=outside[0], via="direct")
    require_made(fleet, [target])
    raise SpecError(
        f"host {source} cannot reach host {target}: they share no network, and {target} has no "
        "address outside its networks",
        hint=f"give {target} a fleet_host.public_ip, or both an address in one of fleet.networks",
    )


def networks_of(fleet: Fleet, host: str) -> tuple[str, ...]:
    """Return what a host shares with others: networks it has an address in, and its cloud's own."""
    found = fleet.hosts[host]
    shared = [
        network.name for network in fleet.networks if _address_in(found, network.cidr) is not None
    ]
    if found.instance is not None:
        # No network is called so.
        shared.append(f"cloud {found.cloud}")
    return tuple(shared)


def are_neighbours(fleet: Fleet, one: str, other: str) -> bool:
    """Return whether both hosts are made in one cloud, where private addresses lead to all."""
    here, there = fleet.hosts[one], fleet.hosts[other]
    made = here.instance is not None and there.instance is not None
    return made and here.cloud == there.cloud


def require_made(fleet: Fleet, hosts: Iterable[str]) -> None:
    """See that the addresses of these hosts are known.

    Raises:
        SpecError: the instances of some are not made, or do not run.
    """
    unmade = [name for name in hosts if fleet.hosts[name].is_unmade]
    if unmade:
        raise SpecError(
            f"not known yet: the addresses of {', '.join(unmade)}; their instances are not made, "
            "do not run, or nothing of the inventory looks for them",
            hint="make them with ./fleet cloud instances create, and put a file such as "
            "cloud.instances.yml into the inventory (docs/how-to/rent-cloud-hosts.md)",
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
