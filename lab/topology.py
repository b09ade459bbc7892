"""What a lab consists of, derived from an inventory: networks, hosts, addresses, mapped ports.

The inventory says each of these once, for Ansible and for the lab. Nothing here touches anything.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from runtime.spec.base import Frozen, Ip, Port
from runtime.spec.errors import SpecError
from runtime.spec.inventory import Inventory
from runtime.spec.services import DHT, RPC, SSH

SWITCH: Final = "switch"
"""The part of the lab that has the bridges which no NAT hides."""

OPERATOR: Final = "operator"
"""The part of the lab that playbooks run in."""

OUTSIDE: Final = "outside"
"""The network that the operator is on, and every host's way to the others."""

ADMINISTRATOR: Final = "admin"
"""The hosts' account that may become root; root itself can log in too."""

KIND_VARIABLE: Final = "lab_kind"
# Of a host that is no part of the fleet, what `fleet_host.addresses` is of the others.
ADDRESSES_VARIABLE: Final = "lab_addresses"
_OUTSIDE_MTU: Final = 1500
# What a direct cable or a switch for storage is set to.
_SHARED_MTU: Final = 9000
# Networks that are inside a NAT are seen by nobody else: each gets one of these.
_INSIDE: Final = ipaddress.IPv4Network("192.168.0.0/16")


class Kind(StrEnum):
    """What carries a host."""

    CONTAINER = "container"
    VM = "vm"


class Network(Frozen):
    """One Ethernet segment: a bridge in a network namespace.

    Attributes:
        home: the part of the lab that has the bridge: the switch, or the NAT it is inside of.
        gateway: where hosts on it send what is for others.
    """

    name: str
    home: str
    cidr: str
    mtu: int
    gateway: Ip | None = None


class Nic(Frozen):
    """A host's network interface; `address` has the length of the network's prefix."""

    interface: str
    network: str
    address: str


class Host(Frozen):
    """A host to boot.

    Attributes:
        seen_as: address and port of its SSH server, as the operator sees them.
        environment: where it finds the operator's installed requirements.
        wheelhouse: where it finds the downloaded ones.
    """

    name: str
    kind: Kind
    seen_as: tuple[Ip, Port]
    ssh_port: Port
    nics: tuple[Nic, ...]
    environment: str | None = None
    wheelhouse: str | None = None


class PortMapping(Frozen):
    """A port of a NAT's public address, and what it leads to."""

    public_port: Port
    address: Ip
    port: Port


class Nat(Frozen):
    """A router with one public address, and the network behind it."""

    name: str
    public_ip: Ip
    inside: str
    mappings: tuple[PortMapping, ...]


class Topology(Frozen):
    """Everything that a lab consists of.

    Attributes:
        operator: the address of the namespace that playbooks run in.
        model: the model's directory on every host.
    """

    name: str
    operator: Ip
    networks: tuple[Network, ...]
    nats: tuple[Nat, ...]
    hosts: tuple[Host, ...]
    model: str

    def host(self, name: str) -> Host:
        """Return a host by its name.

        Raises:
            SpecError: there is none of this name.
        """
        found = {host.name: host for host in self.hosts}
        if name not in found:
            raise SpecError(f"the lab has no host '{name}'", hint=f"hosts: {', '.join(found)}")
        return found[name]

    def network(self, name: str) -> Network:
        """Return a network by its name."""
        return next(network for network in self.networks if network.name == name)


def topology(inventory: Inventory) -> Topology:
    """Return the lab that an inventory describes.

    Every host gets a network card on the network of the operators (the first of
    `fleet.operators`), or behind a NAT where its public ports are mapped, and one on each of
    `fleet.networks` that it has an address in.

    Raises:
        SpecError: the inventory describes something that the lab cannot build.
    """
    fleet = inventory.fleet
    if not fleet.operators:
        raise SpecError(
            "the lab puts its operator into the first network of fleet.operators, which is empty",
            hint="see inventories/lab",
        )
    outside = ipaddress.ip_network(fleet.operators[0])
    if outside.version != 4 or outside.num_addresses < 8:
        raise SpecError(
            f"the lab builds IPv4 networks of at least 8 addresses; fleet.operators has {outside}"
        )
    nats = tuple(_nats(inventory))
    networks = (
        Network(
            name=OUTSIDE,
            home=SWITCH,
            cidr=str(outside),
            mtu=_OUTSIDE_MTU,
            gateway=str(outside[1]),
        ),
        *(
            Network(name=network.name, home=SWITCH, cidr=network.cidr, mtu=_SHARED_MTU)
            for network in fleet.networks
        ),
        *(_inside(nat, number) for number, nat in enumerate(nats)),
    )
    found = Topology(
        name=fleet.name,
        operator=str(outside[-2]),
        networks=networks,
        nats=nats,
        hosts=tuple(_host(inventory, name, networks, nats) for name in inventory.variables),
        model=fleet.model.path,
    )
    _refuse_taken_names(found)
    _refuse_double_addresses(found)
    return found


def _host(
    inventory: Inventory, name: str, networks: tuple[Network, ...], nats: tuple[Nat, ...]
) -> Host:
    variables = inventory.variables[name]
    user = variables.get("ansible_user")
    if user not in ("root", ADMINISTRATOR):
        raise SpecError(
            f"host {name}: ansible_user is {user}; hosts of a lab have the accounts root and "
            f"{ADMINISTRATOR}"
        )
    public = _ip(name, variables)
    nat = next((nat for nat in nats if _is_behind(inventory, name, nat.public_ip)), None)
    nics = []
    if nat is None:
        nics.append(_nic("eth0", networks[0], public))
    else:
        inside = next(network for network in networks if network.name == nat.inside)
        nics.append(_nic("eth0", inside, _inside_address(inventory, name, inside)))
    spec = inventory.fleet.hosts.get(name)
    shared = [network for network in networks[1:] if network.home == SWITCH]
    for network in shared:
        for address in spec.addresses if spec else variables.get(ADDRESSES_VARIABLE, ()):
            if _is_in(address, network.cidr):
                nics.append(_nic(f"data{len(nics) - 1}", network, address))
    outside_port = int(variables.get("ansible_port", SSH.port))
    return Host(
        name=name,
        kind=Kind(variables.get(KIND_VARIABLE, Kind.CONTAINER)),
        seen_as=(public, outside_port),
        ssh_port=spec.ports.ssh if spec else outside_port,
        nics=tuple(nics),
        environment=variables.get("runtime_venv") or None,
        wheelhouse=_find_links(variables.get("runtime_pip_environment")),
    )


def _find_links(pip_environment: object) -> str | None:
    found = pip_environment.get("PIP_FIND_LINKS") if isinstance(pip_environment, dict) else None
    return str(found) if found else None


def _nats(inventory: Inventory) -> Iterator[Nat]:
    """Yield one NAT for each public address whose ports are mapped to others."""
    addresses = {
        host.public_ip: None
        for name, host in inventory.fleet.hosts.items()
        if host.public_ip is not None and _is_mapped(inventory, name)
    }
    for number, public_ip in enumerate(addresses):
        name = f"nat-{number}"
        inside = _inside(Nat(name=name, public_ip=public_ip, inside=name, mappings=()), number)
        behind = [host for host in inventory.fleet.hosts if _is_behind(inventory, host, public_ip)]
        yield Nat(
            name=name,
            public_ip=public_ip,
            inside=inside.name,
            mappings=tuple(
                mapping for host in behind for mapping in _mappings(inventory, host, inside)
            ),
        )


def _mappings(inventory: Inventory, name: str, inside: Network) -> Iterator[PortMapping]:
    fleet = inventory.fleet
    address = _inside_address(inventory, name, inside)
    own = fleet.hosts[name].ports.ssh
    ports = {int(inventory.variables[name].get("ansible_port", own)): own}
    for stage in fleet.stages:
        if stage.host == name:
            for service in (DHT, RPC):
                port = getattr(stage, f"{service.name}_port")
                ports[getattr(stage, f"public_{service.name}_port") or port] = port
    for public_port, port in ports.items():
        yield PortMapping(public_port=public_port, address=address, port=port)


def _is_mapped(inventory: Inventory, name: str) -> bool:
    """Return whether a host's ports are seen under other numbers from outside."""
    host = inventory.fleet.hosts[name]
    ssh_port = int(inventory.variables[name].get("ansible_port", host.ports.ssh))
    return ssh_port != host.ports.ssh or any(
        entry.public_dht_port or entry.public_rpc_port
        for entry in (*host.stages, *(host.servers or ()))
    )


def _is_behind(inventory: Inventory, name: str, public_ip: str) -> bool:
    host = inventory.fleet.hosts.get(name)
    return host is not None and host.public_ip == public_ip and _is_mapped(inventory, name)


def _inside(nat: Nat, number: int) -> Network:
    found = list(_INSIDE.subnets(new_prefix=24))[number]
    return Network(
        name=nat.inside, home=nat.name, cidr=str(found), mtu=_OUTSIDE_MTU, gateway=str(found[1])
    )


def _inside_address(inventory: Inventory, name: str, inside: Network) -> str:
    position = list(inventory.fleet.hosts).index(name)
    return str(ipaddress.ip_network(inside.cidr)[10 + position])


def _nic(interface: str, network: Network, address: str) -> Nic:
    cidr = ipaddress.ip_network(network.cidr)
    if not _is_in(address, network.cidr):
        raise SpecError(
            f"the lab cannot reach {address}: it is not in {network.cidr}, the first network of "
            "fleet.operators"
        )
    return Nic(interface=interface, network=network.name, address=f"{address}/{cidr.prefixlen}")


def _ip(name: str, variables: Mapping[str, Any]) -> str:
    address = str(variables.get("ansible_host", name))
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        raise SpecError(
            f"host {name}: the lab needs an IPv4 address as ansible_host, not {address!r}"
        ) from None


def _is_in(address: str, cidr: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
    except ValueError:
        return False


def _refuse_taken_names(found: Topology) -> None:
    taken = {SWITCH, OPERATOR, *(nat.name for nat in found.nats)}
    for host in found.hosts:
        if host.name in taken:
            raise SpecError(f"the lab has a part of its own that is called '{host.name}'")


def _refuse_double_addresses(found: Topology) -> None:
    users: dict[str, str] = {found.operator: "the lab's operator"}
    users |= {str(network.gateway): "a router" for network in found.networks if network.gateway}
    users |= {nat.public_ip: nat.name for nat in found.nats}
    for host in found.hosts:
        for nic in host.nics:
            address = nic.address.partition("/")[0]
            if address in users:
                raise SpecError(f"{address} belongs to {users[address]} and to host {host.name}")
            users[address] = f"host {host.name}"
