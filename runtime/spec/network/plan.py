"""What the data links of one host should be, and what has to be known of it to get there."""

import ipaddress

from runtime.spec.answers import FILES, Probe, Questions, units
from runtime.spec.base import Address, Frozen, Ip, Port
from runtime.spec.fleet import Fleet
from runtime.spec.network import nic
from runtime.spec.network.buffers import KEYS
from runtime.spec.network.declared import Buffers, Nic, network_of
from runtime.spec.network.files import (
    DIRECTORY,
    MANAGER_CONF,
    NETWORKD,
    NETWORKD_DIRECTORY,
    NETWORKMANAGER,
    SYSCTLS,
    UNIT,
    UNIT_PATH,
)


class Peer(Frozen):
    """A host at the other end of a link."""

    host: str
    address: Ip


class LinkPlan(Frozen):
    """What one interface should be.

    Attributes:
        address: with the length of its network's prefix.
        network: the name of its network.
        mtu: in bytes; None: as it is.
        speed_gbps: what the inventory says, in Gb/s.
        rtt_ms: what the inventory says, in milliseconds; None: it is measured.
        peers: who else is on its network.
    """

    interface: str
    address: str
    network: str
    mtu: int | None
    speed_gbps: float | None
    rtt_ms: float | None
    nic: Nic
    peers: tuple[Peer, ...]


class NetworkPlan(Frozen):
    """What the links of one host should be.

    Attributes:
        ssh: the port that sshd listens on, by which the operators' interface is found.
        questions: what has to be known of the host.
        removal: what has to be known to take everything back.
    """

    fleet: str
    host: str
    ssh: Port
    links: tuple[LinkPlan, ...]
    buffers: Buffers
    questions: Questions
    removal: Questions


def network_plans(fleet: Fleet) -> dict[str, NetworkPlan]:
    """Return the plan of every host's links."""
    ends = [
        (name, each, network)
        for name, host in fleet.hosts.items()
        for each in host.links
        for network in (network_of(each.address, fleet.networks),)
        # One without a network is refused where the fleet is read.
        if network is not None
    ]
    found: dict[str, NetworkPlan] = {}
    for name, host in fleet.hosts.items():
        links = tuple(
            LinkPlan(
                interface=each.interface,
                address=f"{each.address}/{ipaddress.ip_network(network.cidr).prefixlen}",
                network=network.name,
                mtu=network.mtu,
                speed_gbps=network.speed_gbps,
                rtt_ms=network.rtt_ms,
                nic=each.nic,
                peers=tuple(
                    Peer(host=other, address=far.address)
                    for other, far, theirs in ends
                    if other != name and theirs is network
                ),
            )
            for owner, each, network in ends
            if owner == name
        )
        found[name] = NetworkPlan(
            fleet=fleet.name,
            host=name,
            ssh=host.ports.ssh,
            links=links,
            buffers=fleet.buffers,
            questions=_questions(links, host.ports.ssh),
            removal=Questions(probes=(_UNITS,), files=(*FILES, f"{DIRECTORY}/*")),
        )
    return found


_UNITS = units(NETWORKD, NETWORKMANAGER, UNIT)


def ping(interface: str, address: Address, count: int) -> tuple[str, ...]:
    """Return the command that succeeds if a neighbour answers over an interface."""
    often = ("-c", str(count), "-i", "0.2", "-W", "1")
    return ("ping", "-n", "-q", *often, "-I", interface, address)


def _questions(links: tuple[LinkPlan, ...], ssh: Port) -> Questions:
    if not links:
        return Questions(probes=(), files=())
    keys = [f"/proc/sys/{key.replace('.', '/')}" for key in KEYS]
    probes = [
        Probe(name="links", command=("ip", "-json", "-details", "link", "show")),
        Probe(name="addresses", command=("ip", "-json", "address", "show")),
        Probe(name="routes", command=("ip", "-json", "route", "show")),
        Probe(
            name="ssh",
            command=(
                *("ss", "--no-header", "--tcp", "--numeric", "state", "established"),
                *("sport", "=", f":{ssh}"),
            ),
        ),
        Probe(name="nmcli", command=("nmcli", "-t", "-f", "DEVICE,STATE", "device")),
        Probe(name="writable", command=("find", *keys, "-maxdepth", "0", "-writable")),
        _UNITS,
    ]
    for each in links:
        probes += [
            Probe(
                name=f"networkd {each.interface}",
                command=("networkctl", "--no-pager", "status", each.interface),
            ),
            nic.speed_probe(each.interface),
            *nic.probes(each.interface),
            *(
                Probe(
                    name=f"ping {each.interface} {peer.address}",
                    command=ping(each.interface, peer.address, 5),
                )
                for peer in each.peers
            ),
        ]
    return Questions(
        probes=tuple(probes),
        files=(
            *(*FILES, *keys, f"{DIRECTORY}/*", SYSCTLS, UNIT_PATH, MANAGER_CONF),
            *(f"{NETWORKD_DIRECTORY}/*stagefleet*", f"{NETWORKD_DIRECTORY}/*.d/*stagefleet*"),
            *("/etc/network/interfaces", "/etc/network/interfaces.d/*"),
            "/proc/sys/net/ipv4/ip_forward",
        ),
    )
