"""Windows machines: what an operator writes of one, and what it should have.

No server runs on Windows itself: neither hivemind nor Ray's clusters do. It carries a Linux (WSL 2)
that is a host of the fleet like any other, and what is said here is the machine around that Linux:
the card of the direct cable, the shares, the way in. Nothing of it has ever run in continuous
integration.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runtime.spec.base import Frozen, Port
from runtime.spec.host import Host
from runtime.spec.openings import Opening

_LETTERS: Final = r"^[D-Z]$"
_SHARE: Final = r"^\\\\[A-Za-z0-9._-]+\\[A-Za-z0-9._$-]+(\\[A-Za-z0-9._ $-]+)*$"
_TEXT: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._()#-]*$"
_ETHERNET_HEADER: Final = 14
"""What drivers count to the size of a jumbo packet, besides the MTU, in bytes."""


def _interface(value: str) -> str:
    try:
        found = ipaddress.IPv4Interface(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is no address with its network's length, as 10.99.0.2/30"
        ) from None
    network = found.network
    if "/" not in value or network.prefixlen == 32:
        raise ValueError(f"{value} has no network: write its length too, as 10.99.0.2/30")
    if network.prefixlen < 31 and found.ip in {network.network_address, network.broadcast_address}:
        raise ValueError(f"{found.ip} is no address of a machine in {network}")
    return str(found)


InterfaceAddress = Annotated[str, AfterValidator(_interface)]


class Adapter(Frozen):
    """The network card of the link that the fleet uses."""

    name: str = Field(pattern=_TEXT, description="what Windows calls it, such as Ethernet 2")
    address: InterfaceAddress = Field(
        description="its static address with its network's length, as 10.99.0.2/30"
    )
    mtu: Literal[1500, 4074, 9000] = Field(
        default=9000, description="the largest packet, in bytes, as on the other side of the cable"
    )
    receive_buffers: int = Field(
        default=4096, ge=64, le=16384, description="how many; fewer where the card has fewer"
    )
    transmit_buffers: int = Field(
        default=4096, ge=64, le=16384, description="how many; fewer where the card has fewer"
    )
    rss_queues: int = Field(
        default=4, ge=1, le=64, description="processors that receive side by side (RSS)"
    )

    @property
    def properties(self) -> dict[str, int]:
        """Return what is set of the card, by the keywords that every driver has the same."""
        jumbo = 1514 if self.mtu == 1500 else self.mtu + _ETHERNET_HEADER
        return {
            "*JumboPacket": jumbo,
            "*ReceiveBuffers": self.receive_buffers,
            "*TransmitBuffers": self.transmit_buffers,
            "*RSS": 1,
            "*NumRssQueues": self.rss_queues,
        }


class Share(Frozen):
    """A share of another machine, as a drive."""

    drive: str = Field(pattern=_LETTERS, description="its letter, D to Z")
    path: str = Field(pattern=_SHARE, description=r"where it is, as \\10.99.0.1\models")
    user: str = Field(
        pattern=_TEXT,
        description="who may read it; the password is vault_windows_node_passwords.<user>",
    )


class Linux(Frozen):
    """The Linux (WSL 2) that is the host of the fleet."""

    host: str = Field(description="what the inventory calls that host")
    distribution: Literal["Debian", "Ubuntu-24.04"] = Field(
        default="Debian", description="which Linux, by its name in `wsl --list --online`"
    )
    user: str = Field(
        default="fleet", pattern=r"^[a-z][a-z0-9-]{0,30}$", description="who Ansible logs in as"
    )
    public_key: str = Field(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256|sk-ssh-ed25519@openssh\.com) "
        r"[A-Za-z0-9+/=]+( [A-Za-z0-9@._-]+)?$",
        description="the operator's public key, one line of ~/.ssh/id_ed25519.pub",
    )
    memory_gb: int = Field(default=16, ge=4, le=2048, description="how much memory it may use")


class Windows(Frozen):
    """The host variable `fleet_windows`: one Windows machine."""

    adapter: Adapter | None = Field(default=None, description="the card of the fleet's link")
    shares: tuple[Share, ...] = Field(default=(), description="shares that become drives")
    linux: Linux | None = Field(default=None, description="the Linux in it that serves")

    @model_validator(mode="after")
    def _drives_differ(self) -> Self:
        twice = [
            letter
            for letter, count in Counter(share.drive for share in self.shares).items()
            if count > 1
        ]
        if twice:
            raise ValueError(f"shares: drive {twice[0]} is named twice; give each a letter")
        return self


class Rule(Frozen):
    """One thing that comes in through Windows' firewall to the Linux in it."""

    name: str
    protocol: Literal["TCP", "UDP"]
    port: Port
    sources: tuple[str, ...]


class WindowsPlan(Frozen):
    """What one Windows machine should have.

    Attributes:
        management: the address that Ansible connects to; the card that has it is never touched.
        properties: of the card, by keyword.
        peers: networks that may send echo requests to the card: packets of full size prove it.
        rule_prefix: what the names of the fleet's rules begin with, and nobody else's do.
        rules: what the Linux in it lets in.
        linux_port: where sshd listens in that Linux.
    """

    fleet: str
    host: str
    management: str
    adapter: Adapter | None
    properties: dict[str, int]
    peers: tuple[str, ...]
    shares: tuple[Share, ...]
    linux: Linux | None
    linux_port: int
    rule_prefix: str
    rules: tuple[Rule, ...]


def windows_problems(
    machines: Mapping[str, Windows], hosts: Mapping[str, Host], connections: Mapping[str, str]
) -> list[str]:
    """Return what cannot be true of the Windows machines of a fleet.

    Args:
        machines: the machines by name.
        hosts: the fleet's own hosts by name.
        connections: where Ansible connects to each machine.
    """
    problems = []
    for name, machine in machines.items():
        if name in hosts:
            problems.append(
                f"host {name} has both fleet_windows and fleet_host: no server runs on Windows. "
                "Give the Linux in it a name of its own in the inventory, and that one fleet_host"
            )
        adapter, linux = machine.adapter, machine.linux
        if adapter and adapter.address.partition("/")[0] == connections.get(name):
            problems.append(
                f"host {name}: Ansible connects to {connections[name]}, which is the address of "
                f"fleet_windows.adapter {adapter.name!r}: a change would cut that connection. "
                "Connect over another network (ansible_host)"
            )
        if linux and linux.host not in hosts:
            known = ", ".join(sorted(hosts)) or "there is none"
            problems.append(
                f"host {name}: fleet_windows.linux.host is '{linux.host}', which is no host of the "
                f"fleet ({known})"
            )
        elif linux and hosts[linux.host].ports.ssh == _WINDOWS_SSH:
            problems.append(
                f"host {linux.host} is the Linux in {name} and shares its addresses, so that its "
                f"sshd needs another port than Windows' own {_WINDOWS_SSH}: set its ansible_port, "
                "such as 2222"
            )
    taken = Counter(machine.linux.host for machine in machines.values() if machine.linux)
    problems += [
        f"host {host} is the Linux of {count} Windows machines"
        for host, count in taken.items()
        if count > 1
    ]
    return problems


_WINDOWS_SSH: Final = 22


def windows_plan(
    fleet: str,
    name: str,
    machine: Windows,
    hosts: Mapping[str, Host],
    openings: Mapping[str, Iterable[Opening]],
    management: str,
) -> WindowsPlan:
    """Return what a Windows machine should have; its fleet has passed `windows_problems`."""
    linux, adapter = machine.linux, machine.adapter
    prefix = f"stagefleet-{fleet}:"
    network = ipaddress.IPv4Interface(adapter.address).network if adapter else None
    return WindowsPlan(
        fleet=fleet,
        host=name,
        management=management,
        adapter=adapter,
        properties=adapter.properties if adapter else {},
        peers=(str(network),) if network else (),
        shares=machine.shares,
        linux=linux,
        linux_port=hosts[linux.host].ports.ssh if linux else 0,
        rule_prefix=prefix,
        rules=tuple(_rules(prefix, openings[linux.host])) if linux else (),
    )


def _rules(prefix: str, openings: Iterable[Opening]) -> Iterable[Rule]:
    """Return one rule for each port, with all who may use it."""
    sources: dict[tuple[str, int], set[str]] = {}
    for opening in openings:
        sources.setdefault((opening.protocol.upper(), opening.port), set()).add(opening.source)
    for (protocol, port), found in sorted(sources.items()):
        yield Rule.model_validate(
            {
                "name": f"{prefix}{protocol.lower()}-{port}",
                "protocol": protocol,
                "port": port,
                "sources": tuple(sorted(found)),
            }
        )
