"""The lab's networks: namespaces, bridges, cables, NAT. This machine's own stay as they are."""

import ipaddress
from pathlib import Path

from lab.place import Place
from lab.process import run, succeeds
from lab.topology import OPERATOR, OUTSIDE, SWITCH, Host, Nat, Network, Topology

_NAMESPACES = Path("/run/netns")


def build(place: Place, lab: Topology) -> None:
    """Make the switch, the operator's place and the NATs; hosts are plugged in when they boot."""
    _add_namespace(place.namespace(SWITCH))
    for network in lab.networks:
        if network.home == SWITCH:
            _add_bridge(place, network)
    outside = lab.network(OUTSIDE)
    length = ipaddress.ip_network(outside.cidr).prefixlen
    _add_namespace(place.namespace(OPERATOR))
    plug(place, outside, place.namespace(OPERATOR), "eth0", "operator")
    _address(place.namespace(OPERATOR), "eth0", f"{lab.operator}/{length}")
    for nat in lab.nats:
        _build_nat(place, lab, nat)


def exists(place: Place) -> bool:
    """Return whether the lab's networks are there."""
    return (_NAMESPACES / place.namespace(OPERATOR)).exists()


def destroy(place: Place) -> None:
    """Remove every namespace of the lab, and with them what is in them."""
    if _NAMESPACES.is_dir():
        for path in _NAMESPACES.glob(f"{place.namespace('')}*"):
            run("ip", "netns", "delete", path.name)


def connect(place: Place, lab: Topology, host: Host) -> None:
    """Give a host a namespace, and a cable from each of its cards to the card's network."""
    namespace = place.namespace(host.name)
    _add_namespace(namespace)
    for nic in host.nics:
        plug(
            place,
            lab.network(nic.network),
            namespace,
            nic.interface,
            port_of(lab, host, nic.network),
        )


def connect_taps(place: Place, lab: Topology, host: Host) -> None:
    """Give each card of a virtual machine a port of its network."""
    for nic in host.nics:
        network = lab.network(nic.network)
        home, port = place.namespace(network.home), port_of(lab, host, nic.network)
        run("ip", "-n", home, "tuntap", "add", port, "mode", "tap")
        run("ip", "-n", home, "link", "set", port, "mtu", str(network.mtu))
        run("ip", "-n", home, "link", "set", port, "master", network.name, "up")


def disconnect(place: Place, lab: Topology, host: Host) -> None:
    """Pull a host's cables out and forget its connections: to others it falls silent."""
    for nic in host.nics:
        home = place.namespace(lab.network(nic.network).home)
        port = port_of(lab, host, nic.network)
        if succeeds("ip", "-n", home, "link", "show", "dev", port):
            run("ip", "-n", home, "link", "delete", port)
    namespace = place.namespace(host.name)
    if (_NAMESPACES / namespace).exists():
        run("ip", "netns", "delete", namespace)


def port_of(lab: Topology, host: Host, network: str) -> str:
    """Return the name of the bridge port that a host's card is plugged into."""
    # Names of interfaces have 15 characters at most, those of hosts may have more.
    number = [other.name for other in lab.hosts].index(host.name)
    card = [nic.network for nic in host.nics].index(network)
    return f"host{number}card{card}"


def plug(place: Place, network: Network, namespace: str, interface: str, port: str) -> None:
    """Lay a cable from a bridge's new port to a namespace's new interface."""
    home = place.namespace(network.home)
    run(
        "ip", "-n", home, "link", "add", port, "type", "veth", "peer", interface, "netns", namespace
    )
    # What veth devices start with is not the same everywhere.
    run(
        "ip", "-n", home, "link", "set", port, "mtu", str(network.mtu), "master", network.name, "up"
    )
    run("ip", "-n", namespace, "link", "set", interface, "mtu", str(network.mtu))


def inside(place: Place, part: str, *command: str) -> list[str]:
    """Return the command that runs a command in the namespace of a part of the lab."""
    return ["ip", "netns", "exec", place.namespace(part), *command]


def _add_namespace(name: str) -> None:
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")


def _add_bridge(place: Place, network: Network) -> None:
    home = place.namespace(network.home)
    run("ip", "-n", home, "link", "add", network.name, "type", "bridge")
    run("ip", "-n", home, "link", "set", network.name, "mtu", str(network.mtu), "up")
    if network.gateway:
        length = ipaddress.ip_network(network.cidr).prefixlen
        _address(home, network.name, f"{network.gateway}/{length}")


def _address(namespace: str, interface: str, address: str) -> None:
    run("ip", "-n", namespace, "address", "add", address, "dev", interface)
    run("ip", "-n", namespace, "link", "set", interface, "up")


def _build_nat(place: Place, lab: Topology, nat: Nat) -> None:
    outside = lab.network(OUTSIDE)
    length = ipaddress.ip_network(outside.cidr).prefixlen
    namespace = place.namespace(nat.name)
    _add_namespace(namespace)
    plug(place, outside, namespace, "wan", nat.name)
    _address(namespace, "wan", f"{nat.public_ip}/{length}")
    _add_bridge(place, lab.network(nat.inside))
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run("ip", "netns", "exec", namespace, "nft", "-f", "-", stdin=nat_rules(nat))


def nat_rules(nat: Nat) -> str:
    """Return a NAT's rules for nftables.

    Only mapped ports lead inside; what comes from inside leaves under the public address.
    """
    mapped = "".join(
        f"    tcp dport {mapping.public_port} dnat to {mapping.address}:{mapping.port}\n"
        for mapping in nat.mappings
    )
    return f"""table ip nat {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname != "wan" return
{mapped}  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname "wan" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop
    ct state established,related accept
    iifname != "wan" accept
    ct status dnat accept
  }}
}}
"""


def reachable(place: Place, address: str, port: int, seconds: float = 2) -> bool:
    """Return whether the operator can open a TCP connection."""
    probe = f"exec 3<>/dev/tcp/{address}/{port}"
    return succeeds(*inside(place, OPERATOR, "bash", "-c", probe), seconds=seconds)
