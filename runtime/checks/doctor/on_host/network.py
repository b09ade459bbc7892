"""Networks: cards, who listens, and the largest packet that goes through to other hosts."""

import array
import contextlib
import errno
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runtime.checks.doctor.on_host.machine import said
from runtime.checks.probe import sockets

# Of Linux's <linux/in.h>; Python names none of them.
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE, _IP_MTU = 10, 3, 14
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_HEADERS = 28  # of IPv4 and ICMP
_LARGEST = 65535  # that IPv4 can say
_SMALL = 84  # what everything carries: ping's own default
_WAIT_SECONDS = 1.0
_LEAST_WAIT_SECONDS = 0.2
_TRIES = 2
_MOST_PARENTS = 8
# What networks and tunnels have: looked for first, so that few packets say it.
_USUAL = (1280, 1400, 1420, 1450, 1472, 1492, 1500, 4000, 8900, 9000)


def cards(asked: Iterable[str]) -> list[dict[str, Any]]:
    """Return the network cards that have one of these addresses, or the way to everywhere."""
    found = []
    wanted = set(asked)
    default = _default_card()
    for name, address in _addresses():
        if address in wanted or name == default:
            directory = Path("/sys/class/net", name)
            found.append(
                {
                    "name": name,
                    "address": address,
                    "mtu": int(_text(directory / "mtu") or 0),
                    # -1 and an error both mean that it does not know.
                    "speed": max(int(_text(directory / "speed") or -1), 0),
                    "duplex": _text(directory / "duplex"),
                    "carrier": _text(directory / "carrier") == "1",
                    "physical": (directory / "device").exists(),
                }
            )
    return found


def sockets_of(asked: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return who listens on these ports, with the commands of the processes above them."""
    wanted = {(each["protocol"], each["port"]) for each in asked}
    found = []
    for each in sockets():
        if (each["protocol"], each["port"]) in wanted:
            pid = each["process"].rpartition("(pid ")[2].rstrip(")")
            found.append({**each, "commands": _commands(int(pid)) if pid.isdigit() else []})
    return found


def paths(asked: Iterable[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return for each way the largest packet that comes back, and what its first link carries."""
    ways = list(asked)
    if not ways:
        return {}
    with ThreadPoolExecutor(min(len(ways), 32)) as pool:
        links = {address: name for name, address in _addresses()}
        found = pool.map(lambda way: _path(way["address"], links), ways)
        return {way["id"]: each for way, each in zip(ways, found, strict=True)}


def _path(address: str, links: Mapping[str, str]) -> dict[str, Any]:
    seen: dict[str, Any] = {"link": 0, "largest": 0, "problem": "", "milliseconds": None}
    try:
        target = str(socket.getaddrinfo(address, None, socket.AF_INET)[0][4][0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((target, 9))
            # Not what the kernel has learned of the way, which is the question.
            card = Path("/sys/class/net", links.get(asking.getsockname()[0], "?"), "mtu")
            carries = int(_text(card) or asking.getsockopt(socket.IPPROTO_IP, _IP_MTU))
            seen["link"] = min(carries, _LARGEST)
        with _echo_socket() as opened:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
            opened.connect((target, 0))
            taken = _comes_back(opened, _SMALL, _WAIT_SECONDS)
            if taken is None:
                return seen | {"problem": "it answers no ping"}
            seen["milliseconds"] = taken * 1000
            # What is lost is noticed soon where answers come soon.
            wait = min(_WAIT_SECONDS, max(_LEAST_WAIT_SECONDS, 20 * taken))
            seen["largest"] = _largest(opened, seen["link"], wait)
    except PermissionError:
        seen["problem"] = "this account may send no ping"
    except OSError as error:
        seen["problem"] = str(error)
    return seen


def _largest(opened: socket.socket, link: int, wait: float) -> int:
    """Return the size of the largest packet that comes back, no larger than the first link's."""
    if _comes_back(opened, link, wait) is not None:
        return link
    low, high = _SMALL, link
    for size in _USUAL:
        if low < size < high:
            if _comes_back(opened, size, wait) is None:
                high = size
                break
            low = size
    while high - low > 1:
        middle = (low + high) // 2
        if _comes_back(opened, middle, wait) is None:
            high = middle
        else:
            low = middle
    return low


def _echo_socket() -> socket.socket:
    """Return a socket for pings: that of everybody where the system allows it, or that of root."""
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except PermissionError:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def _comes_back(opened: socket.socket, size: int, wait: float) -> float | None:
    """Return the seconds until an unfragmented packet of this size is answered, or None."""
    # The first kind of socket sets an identifier of its own.
    raw = opened.type == socket.SOCK_RAW
    for number in range(1, _TRIES + 1):
        mark = os.urandom(8)
        packet = _echo(mark, size, number)
        start = time.monotonic()
        try:
            opened.send(packet)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return None
            raise
        while (left := start + wait - time.monotonic()) > 0:
            opened.settimeout(left)
            try:
                answer = opened.recv(65535)
            except TimeoutError:
                break
            except OSError as error:
                # A hop that says that it is too large.
                if error.errno == errno.EMSGSIZE:
                    return None
                raise
            body = answer[(answer[0] & 15) * 4 :] if raw else answer
            if body[0] == _ECHO_REPLY and body[8:16] == mark:
                return time.monotonic() - start
    return None


def _echo(mark: bytes, size: int, number: int) -> bytes:
    payload = mark + bytes(size - _HEADERS - len(mark))
    identifier = os.getpid() & 0xFFFF
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identifier, number)
    return (
        struct.pack("!BBHHH", _ECHO_REQUEST, 0, _checksum(head + payload), identifier, number)
        + payload
    )


def _checksum(data: bytes) -> int:
    """Return the internet's checksum: RFC 1071."""
    words = array.array("H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return socket.htons(~total & 0xFFFF)


def _commands(pid: int) -> list[str]:
    """Return the commands of a process and of those above it, the process itself first."""
    found: list[str] = []
    while pid > 1 and len(found) < _MOST_PARENTS:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            found.append(line.replace(b"\0", b" ").decode(errors="replace").strip())
            # The command's name, in brackets, may have spaces: proc(5).
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def _addresses() -> Iterator[tuple[str, str]]:
    """Yield each card with each of its addresses; nothing where iproute2 is missing."""
    _, text = said("ip", "-json", "address")
    for card in json.loads(text or "[]"):
        for each in card["addr_info"]:
            yield card["ifname"], each["local"]


def _default_card() -> str:
    path = Path("/proc/net/route")
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return next((line.split()[0] for line in lines if line.split()[1] == "00000000"), "")


def _text(path: Path) -> str:
    # A card that is down answers some of these with an error.
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""
