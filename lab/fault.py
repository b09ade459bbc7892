"""What goes wrong with real machines, on demand: networks, disks, ports, files."""

import shlex
import time
from collections.abc import Iterator
from typing import Final

from lab import delay as gap
from lab import network
from lab.errors import LabError
from lab.machine import Machine
from lab.network import inside
from lab.process import run, succeeds
from lab.topology import Network

_TABLE: Final = "lab"
# At the root of a lab's host, so that it is on its disk whatever else is mounted.
_FILLING: Final = "/lab-filling"
# What a file system needs, of the same room, to note where so large a file is.
_NOTES: Final = 16 * 2**20
_FILLER: Final = "lab-filler.service"
_TAKER: Final = "lab-port-{port}.service"


def cut(machine: Machine) -> None:
    """Take the link of every network card of a host away; the host itself goes on."""
    for net, port in _ports(machine):
        run("ip", "-n", machine.place.namespace(net.home), "link", "set", port, "down")


def drop(machine: Machine, percent: int) -> None:
    """Lose this share of the packets to and from a host, chosen at random.

    Raises:
        LabError: its packets are delayed, by a program that the rules would not reach.
    """
    for net, port in _ports(machine):
        if gap.is_inserted(machine.place, port):
            raise LabError("packets are delayed already", hint="heal the host first")
        run(*inside(machine.place, net.home, "nft", "-f", "-"), stdin=loss_rules(port, percent))


def delay(machine: Machine, milliseconds: int) -> None:
    """Let every packet to and from a host take this much longer, each way."""
    heal(machine)
    for net, port in _ports(machine):
        gap.insert(machine.place, net, port, milliseconds)


def heal(machine: Machine) -> None:
    """Undo `cut`, `drop` and `delay`."""
    for net, port in _ports(machine):
        gap.remove(machine.place, net, port)
        run("ip", "-n", machine.place.namespace(net.home), "link", "set", port, "up")
        table = ("table", "netdev", _table(port))
        if succeeds(*inside(machine.place, net.home, "nft", "list", *table)):
            run(*inside(machine.place, net.home, "nft", "delete", *table))


def fill(machine: Machine, leave_mib: int = 0) -> None:
    """Fill a host's disk; at least `leave_mib` stay free. `empty` undoes it.

    A disk that is to be full stays so, whatever is removed from it: journald gives room back.
    """
    free = run(*machine.command("stat", "--file-system", "--format", "%a %S", "/"))
    blocks, size = map(int, free.split())
    room = blocks * size - leave_mib * 2**20
    if room > _NOTES:
        run(*machine.command("fallocate", "--length", str(room - _NOTES), _FILLING))
    if not leave_mib:
        rest = f"cat /dev/zero >>{_FILLING} 2>/dev/null"
        run(*machine.command("sh", "-c", f"{rest}; true"))
        run(
            *machine.command("systemd-run", "--quiet", f"--unit={_FILLER}", "--property=Type=exec"),
            *("sh", "-c", f"while :; do {rest}; sleep 0.1; done"),
        )


def empty(machine: Machine) -> None:
    """Undo `fill`."""
    command = f"systemctl stop {_FILLER} 2>/dev/null; rm --force {_FILLING}"
    run(*machine.command("sh", "-c", command))


def take_port(machine: Machine, port: int) -> None:
    """Let another program of the host listen on a TCP port; `release_port` undoes it.

    Raises:
        LabError: somebody listens there already.
    """
    program = f"import socket, time\nopened = socket.create_server(('', {port}))\ntime.sleep(10**6)"
    unit = _TAKER.format(port=port)
    run(
        *machine.command("systemd-run", "--quiet", f"--unit={unit}", "--property=Type=exec"),
        *("python3", "-c", program),
    )
    listening = f"ss --no-header --listening --tcp --numeric 'sport = :{port}' | grep -q LISTEN"
    deadline = time.monotonic() + 10
    while not succeeds(*machine.command("sh", "-c", listening)):
        if time.monotonic() > deadline:
            raise LabError(f"nobody listens on port {port} of host {machine.host.name}")
        time.sleep(0.1)  # between two looks; the deadline ends them
    if not succeeds(*machine.command("systemctl", "--quiet", "is-active", unit)):
        raise LabError(f"port {port} of host {machine.host.name} is taken already")


def release_port(machine: Machine, port: int) -> None:
    """Undo `take_port`."""
    run(*machine.command("systemctl", "stop", _TAKER.format(port=port)))


def corrupt(machine: Machine, path: str) -> None:
    """Invert the byte in the middle of a file, as a bad disk or a bad cable does."""
    quoted = shlex.quote(path)
    middle = f"$(($(stat --format %s {quoted}) / 2))"
    program = (
        "import sys\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    file.seek(int(sys.argv[2])); byte = file.read(1)[0]\n"
        "    file.seek(int(sys.argv[2])); file.write(bytes([byte ^ 255]))"
    )
    text = f"python3 -c {shlex.quote(program)} {quoted} {middle}"
    run(*machine.command("sh", "-c", text))


def _ports(machine: Machine) -> Iterator[tuple[Network, str]]:
    """Yield each network that a host is on, and the port it is plugged into there."""
    for nic in machine.host.nics:
        port = network.port_of(machine.lab, machine.host, nic.network)
        yield machine.lab.network(nic.network), port


def _table(port: str) -> str:
    return f"{_TABLE}-{port}"


def loss_rules(port: str, percent: int) -> str:
    """Return rules that lose packets outside of the host, where its own firewall does not see them.

    Seen from the bridge, what a host sends comes in and what it gets goes out.
    """
    chains = "".join(
        f"  chain {hook} {{\n"
        f'    type filter hook {hook} device "{port}" priority filter\n'
        f"    numgen random mod 100 < {percent} drop\n"
        "  }\n"
        for hook in ("ingress", "egress")
    )
    table = _table(port)
    return (
        f"table netdev {table}\ndelete table netdev {table}\ntable netdev {table} {{\n{chains}}}\n"
    )
