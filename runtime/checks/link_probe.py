"""What a data link lets through, from where this runs: a program for hosts that have only Python.

    echo '{"look": ["data0"], "send": [...], "end": [...]}' | python -c "$(cat link_probe.py)"

It prints one JSON object. `look` tells of interfaces what they are and what they have counted;
`receive` opens a port for whoever measures, for `seconds` or until a later run names its process
under `end`; `send` measures the way to a neighbour: the largest packet that passes whole, round
trips, and what TCP brings over. Raw sockets need root. Nothing but the standard library, in one
file: it runs where nothing is installed.
"""

import contextlib
import errno
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Linux's numbers, which Python's socket module does not have.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _IPV6_DONTFRAG = 10, 23, 62
# Set "do not fragment", and do not believe what was learned of the path: find out.
_PROBE = 3
_RETRANSMITS = slice(100, 104)  # tcpi_total_retrans of struct tcp_info (linux/tcp.h)
_TRIES = 3
_ANSWER_SECONDS = 0.2
_LEAST_PATIENCE = 0.1
_LEAST = 576
_ROUND_TRIPS = 200
_ROUND_TRIP_SECONDS = 3.0
_CHUNK = 1 << 20
_COUNTERS = ("rx_errors", "rx_dropped", "rx_crc_errors", "tx_errors", "tx_dropped")


def main() -> None:
    """Do what the request asks for and print what was found."""
    request = json.load(sys.stdin)
    found: dict[str, Any] = {}
    for pid in request.get("end", ()):
        end(int(pid))
    if "look" in request:
        found["interfaces"] = {name: look(name) for name in request["look"]}
        found["iperf3"] = shutil.which("iperf3") is not None
    if "receive" in request:
        found["receiver"], found["problem"] = receive(**request["receive"])
    if "send" in request:
        found["ways"] = {each["id"]: measure(each) for each in request["send"]}
    print(json.dumps(found))


def look(name: str) -> dict[str, Any]:
    """Return what an interface is, and what it has counted since it was made."""
    place = Path("/sys/class/net", name)
    return {
        "mtu": _number(place / "mtu"),
        "carrier": _number(place / "carrier"),
        "speed_mbps": _number(place / "speed"),
        "counters": {key: _number(place / "statistics" / key) for key in _COUNTERS},
    }


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def measure(way: dict[str, Any]) -> dict[str, Any]:
    """Measure the way to a neighbour; what fails is said under `problem`."""
    found: dict[str, Any] = {}
    try:
        found |= path(way["address"], way["source"], int(way["mtu"]))
        if found["passes"]:
            found["rtt_ms"] = round_trips(way["address"], way["source"])
    except OSError as error:
        found["problem"] = f"probing it: {error}"
        return found
    if found["passes"] and way["seconds"]:
        try:
            sender = _send_iperf3 if way["tool"] == "iperf3" else _send
            found["tcp"] = sender(way)
        except (OSError, ValueError, KeyError) as error:
            found["problem"] = f"measuring with {way['tool']}: {error}"
    return found


class Echo:
    """A raw socket that sends echo requests of a length to one address, never in fragments."""

    def __init__(self, address: str, source: str) -> None:
        self.v6 = ipaddress.ip_address(address).version == 6
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
        self.socket = socket.socket(family, socket.SOCK_RAW, protocol)
        if self.v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind((source, 0))
        self.address = address
        self.header = 48 if self.v6 else 28
        self.identity = os.getpid() & 0xFFFF
        self.number = 0
        self.hop: tuple[str, int] | None = None

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()

    def trip(self, length: int, seconds: float) -> float | None:
        """Return how long an IP packet of a length and its answer took, in seconds; None: lost.

        Raises:
            OSError: EMSGSIZE, where the own interface is smaller, among others.
        """
        self.number = (self.number + 1) & 0xFFFF
        body = bytes(max(0, length - self.header))
        kind = 128 if self.v6 else 8
        head = struct.pack("!BBHHH", kind, 0, 0, self.identity, self.number)
        if not self.v6:  # of version 6, the kernel sums
            head = struct.pack("!BBHHH", kind, 0, _sum(head + body), self.identity, self.number)
        started = time.perf_counter()
        self.socket.sendto(head + body, (self.address, 0))
        while True:
            left = seconds - (time.perf_counter() - started)
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return None
            data, (origin, *_) = self.socket.recvfrom(1 << 16)
            took = time.perf_counter() - started
            if self._is_mine(data, origin):
                return took

    def _is_mine(self, data: bytes, origin: str) -> bool:
        start = 0 if self.v6 else (data[0] & 15) * 4
        kind, code, _, identity, number = struct.unpack("!BBHHH", data[start : start + 8])
        if (kind, code) == ((2, 0) if self.v6 else (3, 4)):
            # Who could not pass it on says so, with the length that he could.
            (most,) = struct.unpack("!I", data[start + 4 : start + 8])
            self.hop = (origin, most & 0xFFFF)
            return False
        answer = 129 if self.v6 else 0
        return bool(kind == answer and (identity, number) == (self.identity, self.number))


def _sum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def path(address: str, source: str, wanted: int) -> dict[str, Any]:
    """Return the largest IP packet, in bytes and at most `wanted`, that reaches an address whole.

    The answer may come in fragments: only this direction is proven, the other one from there.
    """
    echo = Echo(address, source)
    own, patience = False, _ANSWER_SECONDS

    def passes(length: int) -> bool:
        nonlocal own
        try:
            return any(echo.trip(length, patience) is not None for _ in range(_TRIES))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            own = True
            return False

    try:
        # The first packet waits for the neighbour's hardware address.
        with contextlib.suppress(OSError):
            echo.trip(_LEAST, 1.0)
            took = echo.trip(_LEAST, 1.0)
            if took is not None:
                patience = max(_LEAST_PATIENCE, 5 * took)
        found = wanted if passes(wanted) else largest(passes, _LEAST, wanted)
    finally:
        echo.close()
    hop = {"address": echo.hop[0], "mtu": echo.hop[1]} if echo.hop else None
    return {"passes": found, "own_limit": own, "hop": hop}


def largest(passes: Callable[[int], bool], least: int, too_large: int) -> int:
    """Return the largest length below `too_large` that passes, or 0 if not even `least` does."""
    if not passes(least):
        return 0
    low, high = least, too_large
    # Nearly always it is the usual one, and every length that does not pass costs time.
    for likely in (1500, 1501):
        if low < likely < high:
            low, high = (likely, high) if passes(likely) else (low, likely)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def round_trips(address: str, source: str) -> dict[str, Any]:
    """Return the median and the 99th percentile of short round trips, in milliseconds."""
    echo = Echo(address, source)
    took: list[float] = []
    sent = 0
    deadline = time.monotonic() + _ROUND_TRIP_SECONDS
    try:
        while sent < _ROUND_TRIPS and time.monotonic() < deadline:
            sent += 1
            one = echo.trip(64, _ANSWER_SECONDS * 5)
            if one is not None:
                took.append(one * 1000)
            time.sleep(0.002)  # so that the link is as it is between requests
    finally:
        echo.close()
    took.sort()
    found: dict[str, Any] = {"sent": sent, "answered": len(took)}
    if took:
        found |= {
            "p50": took[len(took) // 2],
            "p99": took[min(len(took) - 1, len(took) * 99 // 100)],
        }
    return found


def receive(address: str, port: int, tool: str, seconds: float) -> tuple[int | None, str]:
    """Start to receive in a process of its own; return it, or None and why not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((address, port))
        server.listen(64)
    except OSError as error:
        server.close()
        return None, f"port {port} cannot be opened: {error.strerror}"
    pid = os.fork()
    if pid:
        server.close()
        return pid, ""
    os.setsid()
    with Path(os.devnull).open("r+b") as nothing:
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    # Its children are ended with it.
    signal.alarm(int(seconds) + 1)
    if tool == "iperf3":
        server.close()
        command = ("iperf3", "--server", "--bind", address, "--port", str(port))
        os.execvp(command[0], command)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _swallow(connection)
            os._exit(0)
        connection.close()


def _swallow(connection: socket.socket) -> None:
    """Count what comes, and say at its end how much it was."""
    connection.settimeout(30)
    room, total = bytearray(_CHUNK), 0
    while True:
        got = connection.recv_into(room)
        if not got:
            break
        total += got
    connection.sendall(str(total).encode())
    connection.close()


def end(pid: int) -> None:
    """End a receiver of an earlier run, and nothing else that has its number by now."""
    with contextlib.suppress(OSError):
        command = Path("/proc", str(pid), "cmdline").read_bytes()
        if b"iperf3" in command or b"_swallow" in command:
            os.killpg(pid, signal.SIGTERM)


def _send_iperf3(way: dict[str, Any]) -> dict[str, Any]:
    command = [
        *("iperf3", "--json", "--client", way["address"], "--bind", way["source"]),
        *("--port", str(way["port"]), "--parallel", str(way["streams"])),
        *("--time", str(way["seconds"]), "--connect-timeout", "3000"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=way["seconds"] + 20, check=False
    )
    found = json.loads(done.stdout)
    if "error" in found:
        raise ValueError(found["error"])
    ended = found["end"]
    cpu = ended["cpu_utilization_percent"]
    return {
        "gbps": ended["sum_received"]["bits_per_second"] / 1e9,
        "retransmits": ended["sum_sent"].get("retransmits"),
        "cpu_here": cpu["host_total"],
        "cpu_there": cpu["remote_total"],
    }


def _send(way: dict[str, Any]) -> dict[str, Any]:
    """Send with streams of our own, each a process."""
    started, before = time.monotonic(), os.times()
    pipes = []
    for _ in range(way["streams"]):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            try:
                text = json.dumps(_stream(way))
            except OSError as error:
                text = json.dumps({"problem": str(error)})
            os.write(write, text.encode())
            os._exit(0)
        os.close(write)
        pipes.append(read)
    told = []
    for read in pipes:
        with os.fdopen(read) as pipe:
            told.append(json.loads(pipe.read() or '{"problem": "a stream ended early"}'))
        os.wait()
    problems = [each["problem"] for each in told if "problem" in each]
    if problems:
        raise ValueError(problems[0])
    elapsed, after = time.monotonic() - started, os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return {
        "gbps": sum(each["bytes"] * 8 / each["seconds"] for each in told) / 1e9,
        "retransmits": sum(each["retransmits"] for each in told),
        "cpu_here": used / elapsed * 100,
        "cpu_there": None,
    }


def _stream(way: dict[str, Any]) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in way["address"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.bind((way["source"], 0))
        connection.settimeout(3)
        connection.connect((way["address"], way["port"]))
        connection.settimeout(30)
        chunk = bytes(_CHUNK)
        started = time.monotonic()
        while time.monotonic() < started + way["seconds"]:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        told = b""
        while more := connection.recv(64):
            told += more
        seconds = time.monotonic() - started
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (retransmits,) = struct.unpack("=I", info[_RETRANSMITS])
    return {"bytes": int(told), "seconds": seconds, "retransmits": retransmits}


if __name__ == "__main__":
    main()
