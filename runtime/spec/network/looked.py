"""What a host says of its interfaces, from the answers to the questions of its plan."""

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from runtime.spec.answers import Seen
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.network.buffers import KEYS
from runtime.spec.network.files import MANAGER_CONF, NETWORKD, Manager, manager_mark


class Interface(Frozen):
    """One network interface of a host.

    Attributes:
        mtu: in bytes.
        most: the largest MTU that its driver allows, in bytes; None: it does not say.
        up: it is switched on; a cable need not be plugged in.
        addresses: with the lengths of their networks' prefixes.
        part_of: the bridge or bond that it is a port of, or empty.
    """

    name: str
    mtu: int
    most: int | None
    up: bool
    addresses: tuple[str, ...]
    part_of: str = ""


class Session(Frozen):
    """An SSH connection to the host: where it arrived, and where it came from."""

    local: str
    peer: str


def interfaces(seen: Seen) -> dict[str, Interface]:
    """Return the interfaces of a host by name.

    Raises:
        SpecError: the host did not say.
    """
    addresses: dict[str, list[str]] = {}
    for each in _json(seen, "addresses"):
        addresses[each["ifname"]] = [
            f"{one['local']}/{one['prefixlen']}" for one in each.get("addr_info", ())
        ]
    return {
        each["ifname"]: Interface(
            name=each["ifname"],
            mtu=each["mtu"],
            # Zero: there is no limit but that of the packet's length.
            most=each.get("max_mtu") or None,
            up="UP" in each.get("flags", ()),
            addresses=tuple(addresses.get(each["ifname"], ())),
            part_of=each.get("master", ""),
        )
        for each in _json(seen, "links")
    }


def sessions(seen: Seen) -> tuple[Session, ...]:
    """Return the SSH connections of a host; where it cannot say, none."""
    return tuple(_sessions(seen.answer("ssh").output))


def _sessions(output: str) -> Iterator[Session]:
    for line in output.splitlines():
        ends = [_ip(word) for word in line.split()[2:4]]
        if len(ends) == 2 and all(ends):
            yield Session(local=ends[0], peer=ends[1])


def _ip(word: str) -> str:
    """Return the address of an end such as `[::ffff:10.0.0.1%eth0]:22`, or an empty text."""
    try:
        found = ipaddress.ip_address(word.rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def carries(interface: Interface, seen: Seen) -> str:
    """Return which SSH session runs over an interface, for people, or an empty text."""
    own = {str(ipaddress.ip_interface(each).ip) for each in interface.addresses}
    for session in sessions(seen):
        if session.local in own or route_to(session.peer, seen) == interface.name:
            return f"the session from {session.peer}"
    return ""


def route_to(address: str, seen: Seen) -> str:
    """Return the interface that packets to an IPv4 address leave by, or an empty text."""
    ip = ipaddress.ip_address(address)
    best, found = -1, ""
    if ip.version == 4:
        for route in _json(seen, "routes"):
            dst = route.get("dst", "default")
            network = ipaddress.ip_network("0.0.0.0/0" if dst == "default" else dst, strict=False)
            if ip in network and network.prefixlen > best:
                best, found = network.prefixlen, route.get("dev", "")
    return found


def manager(interface: str, seen: Seen) -> Manager:
    """Return who sets the addresses of an interface."""
    states = dict(
        line.partition(":")[::2] for line in seen.answer("nmcli").output.splitlines() if ":" in line
    )
    # One that it was told to leave alone is its own again when the fleet goes.
    left_alone = manager_mark(interface) in seen.files.get(MANAGER_CONF, "")
    if left_alone or states.get(interface, "unmanaged") not in ("unmanaged", "unavailable"):
        return Manager.NETWORKMANAGER
    word = re.compile(rf"^\s*iface\s+{re.escape(interface)}\s", re.MULTILINE)
    if any(
        word.search(text)
        for path, text in seen.files.items()
        if path.startswith("/etc/network/interfaces")
    ):
        return Manager.IFUPDOWN
    if seen.unit(NETWORKD).get("ActiveState") == "active":
        return Manager.NETWORKD
    return Manager.NOBODY


def network_file(interface: str, seen: Seen) -> str:
    """Return the file that networkd reads for an interface, or an empty text."""
    output = seen.answer(f"networkd {interface}").output
    found = re.search(r"Network File: (/\S+)", output)
    return found[1] if found else ""


def sysctls(seen: Seen) -> dict[str, str]:
    """Return the settings that are there, each with single spaces."""
    return {
        key: " ".join(seen.files[path].split())
        for key in KEYS
        for path in (f"/proc/sys/{key.replace('.', '/')}",)
        if path in seen.files
    }


def writable(seen: Seen) -> set[str]:
    """Return the keys that can be set."""
    paths = seen.answer("writable").output.splitlines()
    return {path.removeprefix("/proc/sys/").replace("/", ".") for path in paths}


def forwards(seen: Seen) -> bool:
    """Return whether a host passes packets on."""
    return seen.files.get("/proc/sys/net/ipv4/ip_forward", "0").strip() == "1"


def round_trip_ms(interface: str, address: str, seen: Seen) -> float | None:
    """Return the mean of the round trips to a neighbour in milliseconds; None: it is silent."""
    output = seen.answer(f"ping {interface} {address}").output
    found = re.search(r"min/avg/max/\S+ = [0-9.]+/([0-9.]+)/", output)
    return float(found[1]) if found else None


def _json(seen: Seen, name: str) -> list[dict[str, Any]]:
    answer = seen.answer(name)
    if answer.code != 0:
        raise SpecError(
            f"it does not say what interfaces it has: ip ({name}) ended with {answer.code}",
            hint="install iproute2 there (apt install iproute2)",
        )
    found: list[dict[str, Any]] = json.loads(answer.output or "[]")
    # Of what it may not show, `ip` prints an empty object.
    return [each for each in found if each]
