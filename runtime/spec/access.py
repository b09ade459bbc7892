"""Who else may reach a service, by network, and what counts as open to the world."""

import difflib
import ipaddress
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final

from pydantic import Field

from runtime.spec.base import Cidr, Frozen
from runtime.spec.services import CATALOGUE, NFS, PROOF, SMB, Peers, Service

# More addresses than a provider, a campus or a company has of its own are the world.
_MOST_ADDRESSES: Final = {4: 2**16, 6: 2**96}
# RFC 1918 and RFC 4193: nobody gets in from the internet by these.
_PRIVATE: Final = tuple(
    ipaddress.ip_network(cidr)
    for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)

OPENABLE: Final = tuple(
    service
    for service in CATALOGUE
    if service.reached_from not in (Peers.SAME_HOST, Peers.MONITORING, Peers.NEIGHBOURS)
    and service is not NFS
)
"""The services that can be opened to a network: the others listen on loopback only, say themselves
who takes metrics, or know hosts only."""


class Access(Frozen):
    """Networks that may reach a service besides those that its row in the catalogue names."""

    service: str = Field(description="the service's name in the table of ports")
    hosts: tuple[str, ...] = Field(
        default=(), description="on these hosts only; default: wherever it runs"
    )
    networks: tuple[Cidr, ...] = Field(min_length=1, description="where they connect from")
    public: bool = Field(
        default=False,
        description="it is meant to be open to the world; each run has to allow that too",
    )


def is_private(cidr: Cidr) -> bool:
    """Return whether no address of this network can be reached from the internet."""
    network = ipaddress.ip_network(cidr)
    return any(
        network.version == private.version and network.subnet_of(private)  # type: ignore[arg-type]  # of one version
        for private in _PRIVATE
    )


def is_open_to_the_world(networks: Iterable[Cidr]) -> bool:
    """Return whether these networks, taken together, are more than anybody's own."""
    return _is_open_to_the_world(tuple(networks))


# The same few networks are asked about for each of thousands of hosts.
@lru_cache
def _is_open_to_the_world(networks: tuple[Cidr, ...]) -> bool:
    found = [ipaddress.ip_network(cidr) for cidr in networks if not is_private(cidr)]
    for version, most in _MOST_ADDRESSES.items():
        same = [network for network in found if network.version == version]
        union = ipaddress.collapse_addresses(same)  # type: ignore[type-var]  # of one version
        if sum(network.num_addresses for network in union) > most:
            return True
    return False


def access_problems(
    access: Collection[Access], operators: Collection[Cidr], hosts: Collection[str]
) -> Iterator[str]:
    """Yield what is wrong: unknown names, and doors to the world that nobody asked for."""
    names = {service.name for service in OPENABLE}
    for row in access:
        where = f"access to {row.service}"
        if row.service not in names:
            yield f"{where}: {_unknown(row.service, sorted(names))}"
        for host in row.hosts:
            if host not in hosts:
                near = difflib.get_close_matches(host, hosts, n=1)
                advice = f"; did you mean '{near[0]}'?" if near else ""
                yield f"{where}: '{host}' is no host of the fleet{advice}"
    for service in OPENABLE:
        rows = [row for row in access if row.service == service.name]
        people = operators if service.reached_from is Peers.OPERATORS else ()
        yield from _too_open(service, rows, people)


def _unknown(name: str, names: Collection[str]) -> str:
    if name in {each.name for each in CATALOGUE if each.reached_from is Peers.MONITORING}:
        return f"who takes metrics from {name} is said in fleet.monitoring"
    if name == PROOF.name:
        return f"{name} is for the neighbours of data links only, while they are measured"
    if name == NFS.name:
        return (
            f"it knows hosts and no people: add hosts to the readers of a share, or share by "
            f"{SMB.name}"
        )
    if name in {service.name for service in CATALOGUE}:
        return f"{name} listens on loopback only; people reach it through SSH (see ./fleet chat)"
    return f"there is no such service; choose one of {', '.join(names)}"


def _too_open(
    service: Service, rows: Collection[Access], operators: Collection[Cidr]
) -> Iterator[str]:
    # Taken together: two halves of the internet are the internet.
    networks = [*operators, *(cidr for row in rows for cidr in row.networks)]
    if not is_open_to_the_world(networks):
        return
    where = "operators" if is_open_to_the_world(operators) else f"access to {service.name}"
    shown = f"{where}: {', '.join(networks)} is open to the world"
    if service.control:
        yield (
            f"{shown}, and {service.name} never is: machines are controlled by it; name the "
            "networks that people really come from"
        )
    elif not any(row.public for row in rows):
        yield f"{shown}; if that is meant, say so with public: true"
