"""What an operator writes of data links, and what is refused of it before any host is touched."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import Field

from runtime.spec.base import Cidr, Frozen, Ip, Name

Most = Annotated[int, Field(ge=1, le=65536)] | Literal["max"] | None
Microseconds = Annotated[int, Field(ge=0, le=100_000)] | None
MTU_MOST: Final = 65535
"""In bytes; the length of an IP packet has 16 bits (RFC 791)."""
MTU_LEAST: Final = 1280
"""In bytes; with less there is no IPv6 (RFC 8200, section 5)."""


class Network(Frozen):
    """A network that several hosts share; they use it to reach each other."""

    name: Name = Field(description="what plans and logs call it")
    cidr: Cidr = Field(description="its addresses, such as 10.0.0.0/24")
    private: bool = Field(
        default=False,
        description="nobody else is on it (a direct cable, WireGuard): plain TCP is allowed",
    )
    mtu: int | None = Field(
        default=None,
        ge=MTU_LEAST,
        le=MTU_MOST,
        description="bytes of the packets of its links (fleet_host.links), such as 9000; "
        "default: left as it is",
    )
    speed_gbps: float | None = Field(
        default=None,
        gt=0,
        le=1600,
        description="Gb/s of its links, which ./fleet check-links asks for; default: what the "
        "cards say",
    )
    rtt_ms: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="milliseconds of its round trip, for buffers; default: measured",
    )


class Nic(Frozen):
    """How a network card works; what is not said stays as it is.

    What a card cannot do is capped or left out, and reported by name.
    """

    rx_ring: Most = Field(
        default=None, description="packets that wait on the card to be fetched; max: all it has"
    )
    tx_ring: Most = Field(
        default=None, description="packets that wait to be sent; max: all the card has"
    )
    queues: Most = Field(
        default=None, description="pairs of queues, each served by one core; max: all it has"
    )
    adaptive_rx: bool | None = Field(
        default=None, description="the card itself decides how long it gathers packets"
    )
    rx_usecs: Microseconds = Field(
        default=None, description="microseconds to gather packets before an interrupt"
    )
    tx_usecs: Microseconds = Field(
        default=None, description="microseconds to gather sent packets before an interrupt"
    )
    tso: bool | None = Field(default=None, description="the card cuts large TCP sends")
    gso: bool | None = Field(default=None, description="the kernel cuts large sends late")
    gro: bool | None = Field(default=None, description="the kernel joins received packets")
    lro: bool | None = Field(
        default=None,
        description="the card joins received packets; never where the host forwards packets",
    )


class HostLink(Frozen):
    """One network interface of a host that carries data, and never the operators' SSH."""

    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")] = Field(
        description="its name on the host, such as enp5s0"
    )
    address: Ip = Field(
        description="its address, in one of fleet.networks; fleet_host.addresses need not repeat it"
    )
    nic: Nic = Field(default=Nic(), description="how the card works; what is not said stays as is")


Buffers = Literal["computed", "guides", "none"]


class _Network(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def cidr(self) -> Cidr: ...


N = TypeVar("N", bound=_Network)


class _Host(Protocol):
    @property
    def links(self) -> tuple[HostLink, ...]: ...


def with_links(name: str, data: Mapping[str, Any], connection: object) -> dict[str, Any]:
    """Return a host's raw data whose addresses have those of its links.

    Args:
        name: the host.
        data: what its variable `fleet_host` says.
        connection: where Ansible connects to, or None.

    Raises:
        ValueError: Ansible connects over a link.
    """
    links = data.get("links")
    if not isinstance(links, list | tuple):
        return dict(data)
    own = [str(each["address"]) for each in links if isinstance(each, dict) and "address" in each]
    if connection is not None and str(connection) in own:
        raise ValueError(
            f"host {name}: Ansible connects to {connection}, which is the address of a link in "
            "fleet_host.links; a link is changed, and must not carry the SSH session: set "
            "ansible_host to an address of another interface"
        )
    written = [str(address) for address in data.get("addresses", ())]
    return {**data, "addresses": [*(each for each in own if each not in written), *written]}


def network_of(address: Ip, networks: Iterable[N]) -> N | None:
    """Return the first of these networks that an address is in, or None."""
    ip = ipaddress.ip_address(address)
    return next((each for each in networks if ip in ipaddress.ip_network(each.cidr)), None)


def link_problems(
    hosts: Mapping[str, _Host],
    networks: Iterable[_Network],
    operators: Iterable[Cidr],
    is_root: bool,
) -> list[str]:
    """Return what is wrong with the links, in the operator's words.

    Args:
        hosts: every host of the fleet.
        networks: those of the fleet.
        operators: where people log in from.
        is_root: the fleet is installed by root, who alone can change an interface.
    """
    linked = {name: host for name, host in hosts.items() if host.links}
    if linked and not is_root:
        return [
            f"host {name} has fleet_host.links, but install.scope is user: only root can change a "
            "network interface"
            for name in linked
        ]
    return [
        *_twice(linked),
        *(
            problem
            for name, host in linked.items()
            for each in host.links
            for problem in _problems(name, each, tuple(networks), tuple(operators))
        ),
    ]


def _twice(hosts: Mapping[str, _Host]) -> Iterator[str]:
    interfaces: dict[tuple[str, str], int] = {}
    addresses: dict[str, list[str]] = {}
    for name, host in hosts.items():
        for each in host.links:
            key = (name, each.interface)
            interfaces[key] = interfaces.get(key, 0) + 1
            addresses.setdefault(each.address, []).append(f"{name} ({each.interface})")
    for (name, interface), count in interfaces.items():
        if count > 1:
            yield (
                f"host {name}: {count} links are called '{interface}'; an interface is one link, "
                "with one address"
            )
    for address, users in addresses.items():
        if len(users) > 1:
            yield f"{address} is the address of {len(users)} links: {' and '.join(users)}"


def _problems(
    host: str, each: HostLink, networks: tuple[_Network, ...], operators: tuple[Cidr, ...]
) -> Iterator[str]:
    where = f"host {host}: link {each.interface}"
    network = network_of(each.address, networks)
    if network is None:
        yield (
            f"{where} has the address {each.address}, which is in none of fleet.networks "
            f"({', '.join(each.cidr for each in networks) or 'there are none'}): add its network "
            "there, with its cidr and mtu"
        )
        return
    around = ipaddress.ip_network(network.cidr)
    ip = ipaddress.ip_address(each.address)
    reserved = around.num_addresses > 2 and around.version == 4
    if reserved and ip in (around[0], around[-1]):
        yield f"{where} has the address {each.address}, which no host of {network.cidr} can have"
    for operator in map(ipaddress.ip_network, operators):
        if operator.version == around.version and around.overlaps(operator):
            yield (
                f"{where} is in the network '{network.name}' {network.cidr}, from which "
                f"fleet.operators ({operator}) log in; a link must not carry the SSH session: "
                "give the data links a network of their own"
            )
