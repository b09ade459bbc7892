"""Packets that take longer: a program carries every frame over a gap, and holds it for a while.

The kernel's own way, netem, is not in every kernel; this works with any. A host's port is taken off
its bridge, and the program carries frames between the port and a new one in its place:

    python -m lab.delay PORT NEW-PORT MILLISECONDS
"""

import heapq
import select
import socket
import sys
import time
from typing import Final

from lab.cgroup import Group
from lab.network import inside
from lab.place import Place
from lab.process import run, start, succeeds
from lab.topology import Network

_ETH_P_ALL: Final = 0x0003
# From linux/if_packet.h and linux/socket.h; the module socket does not name them. With a virtio
# header comes, with every frame, what the kernel has yet to do for it, checksums and the cutting of
# large segments: without it such frames would arrive broken.
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_LARGEST_FRAME: Final = 2**16 + 2**8
_END_SECONDS: Final = 10


def insert(place: Place, network: Network, port: str, milliseconds: int) -> None:
    """Let frames between a port and its bridge take this much longer, in both directions."""
    remove(place, network, port)
    home = place.namespace(network.home)
    near, far = f"{port}n", f"{port}f"
    run("ip", "-n", home, "link", "add", near, "type", "veth", "peer", far)
    for name in (near, far):
        run("ip", "-n", home, "link", "set", name, "mtu", str(network.mtu), "up")
    # Off the bridge, the port must not be one of the namespace's own ways.
    run("ip", "-n", home, "link", "set", port, "nomaster", "arp", "off")
    run("ip", "-n", home, "link", "set", far, "master", network.name)
    carrier = (sys.executable, "-P", "-m", "lab.delay", port, near, str(milliseconds))
    command = _group(place, port).joined(*inside(place, network.home, *carrier))
    start(command, place.state / f"delay-{port}.log")


def remove(place: Place, network: Network, port: str) -> None:
    """Plug a port into its bridge again."""
    home = place.namespace(network.home)
    _group(place, port).kill()
    _group(place, port).is_empty_within(_END_SECONDS)
    if succeeds("ip", "-n", home, "link", "show", "dev", f"{port}n"):
        run("ip", "-n", home, "link", "delete", f"{port}n")
    if succeeds("ip", "-n", home, "link", "show", "dev", port):
        run("ip", "-n", home, "link", "set", port, "master", network.name, "arp", "on")


def is_inserted(place: Place, port: str) -> bool:
    """Return whether frames of a port are delayed."""
    return bool(_group(place, port).processes())


def carry(first: str, second: str, seconds: float) -> None:
    """Carry frames between two interfaces of this namespace, for ever."""
    ends = [_opened(name) for name in (first, second)]
    opposite = {ends[0]: ends[1], ends[1]: ends[0]}
    # In the order in which they are due; numbered, because sockets cannot be compared.
    held: list[tuple[float, int, socket.socket, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for end in select.select(ends, [], [], wait)[0]:
            frame = end.recv(_LARGEST_FRAME)
            count += 1
            heapq.heappush(held, (time.monotonic() + seconds, count, opposite[end], frame))
        while held and held[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(held)
            end.send(frame)


def _opened(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.bind((name, _ETH_P_ALL))
    return opened


def _group(place: Place, port: str) -> Group:
    return place.group(f"delay-{port}")


if __name__ == "__main__":
    carry(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000)
