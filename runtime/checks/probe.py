"""What can be seen of ports from where this runs: a program for hosts that have only Python.

    echo '{"listen": [...], "dial": [...], "end": [...], "seconds": 120, "name": "gpu-0"}' |
        python -c "$(cat probe.py)"

It prints one JSON object. `listen` opens ports that nobody listens on, for `seconds` or until a
later run names its process under `end`; whoever connects is told `name` and the port. `dial` tries
ports of others. Nothing but the standard library, in one file: it runs where nothing is installed.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

GREETING = "stagefleet-probe "
# What the kernel calls a listener of ours, in its 15 characters.
_PROCESS = "stagefleet-port"
_AT_ONCE = 64
_DIAL_SECONDS = 3.0
_ANSWER_SECONDS = 1.0
_GREETING_BYTES = 256
# What the kernel calls a listening TCP socket, and a UDP socket that is not connected.
_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


def main() -> None:
    """Do what the request asks for and print what was found."""
    request = json.load(sys.stdin)
    for pid in request.get("end", ()):
        end(int(pid))
    found: dict[str, Any] = {"sockets": [], "listener": None, "problems": {}, "dialled": {}}
    if "listen" in request:
        found["listener"], found["problems"] = listen(
            request["listen"], request["name"], float(request["seconds"])
        )
        found["sockets"] = list(sockets())
    targets = request.get("dial", [])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = [target["id"] for target in targets]
        found["dialled"] = dict(zip(names, pool.map(dial, targets), strict=True))
    print(json.dumps(found))


def sockets() -> Iterator[dict[str, Any]]:
    """Yield the sockets of this network namespace that wait for somebody, with their processes."""
    owners = _owners()
    for name, state in _LISTENING.items():
        path = Path("/proc/net", name)
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        for line in lines:
            fields = line.split()
            if fields[3] == state:
                address, _, port = fields[1].partition(":")
                yield {
                    "protocol": name[:3],
                    "address": _address(address),
                    "port": int(port, 16),
                    "process": owners.get(fields[9], ""),
                }


def listen(
    wanted: list[dict[str, Any]], name: str, seconds: float
) -> tuple[int | None, dict[str, str]]:
    """Listen, in a process of its own, on the ports that nobody listens on.

    Returns:
        the process, or None if every port is taken already; and, by "protocol/port", why a port
        could not be opened.
    """
    taken = {(each["protocol"], each["port"]) for each in sockets()}
    opened: list[socket.socket] = []
    problems: dict[str, str] = {}
    for each in wanted:
        if (each["protocol"], each["port"]) not in taken:
            try:
                opened.append(_open(each["protocol"], each["address"], each["port"]))
            except OSError as error:
                problems[f"{each['protocol']}/{each['port']}"] = str(error)
    if not opened:
        return None, problems
    named, naming = os.pipe()
    pid = os.fork()
    if pid == 0:
        _detach()
        os.close(naming)
        _serve(opened, name, seconds)
    os.close(naming)
    # Until it ends, or bears its name: by that it is recognised in what follows.
    os.read(named, 1)
    os.close(named)
    for own in opened:
        own.close()
    return pid, problems


def dial(target: dict[str, Any]) -> dict[str, str]:
    """Return how a port answers: "open", "refused", "silent" or "unreachable", and who it is.

    A UDP port is open if it answers; one that does not is silent, whatever the reason.
    """
    kind = socket.SOCK_STREAM if target["protocol"] == "tcp" else socket.SOCK_DGRAM
    try:
        family, _, _, _, address = socket.getaddrinfo(target["address"], target["port"], type=kind)[
            0
        ]
        with socket.socket(family, kind) as connection:
            connection.settimeout(_DIAL_SECONDS)
            connection.connect(address)
            if kind is socket.SOCK_DGRAM:
                connection.send(GREETING.encode())
                return {"state": "open", "name": _name(connection.recv(_GREETING_BYTES))}
            return {"state": "open", "name": _greeted(connection)}
    except ConnectionRefusedError:
        return {"state": "refused", "name": ""}
    except TimeoutError:
        return {"state": "silent", "name": ""}
    except OSError as error:
        return {"state": "unreachable", "name": "", "reason": str(error)}


def end(pid: int) -> None:
    """End a listener of an earlier run; another process that has its number now is left alone."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == _PROCESS:
            os.kill(pid, signal.SIGTERM)


def _open(protocol: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    opened = socket.socket(family, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((address, port))
        if kind is socket.SOCK_STREAM:
            opened.listen()
    except OSError:
        opened.close()
        raise
    return opened


def _detach() -> None:
    """Let go of whoever has started this, who would wait for its output to end."""
    os.setsid()
    Path("/proc/self/comm").write_text(_PROCESS)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _serve(opened: list[socket.socket], name: str, seconds: float) -> None:
    """Tell everybody who comes the name, until the time is over; never returns."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        for each in opened:
            each.setblocking(False)
            waiting.register(each, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                with contextlib.suppress(OSError):
                    _answer(key.fileobj, name)  # type: ignore[arg-type]  # sockets only
    os._exit(0)


def _answer(opened: socket.socket, name: str) -> None:
    answer = f"{GREETING}{name} port {opened.getsockname()[1]}\n".encode()
    if opened.type is socket.SOCK_DGRAM:
        _, whom = opened.recvfrom(_GREETING_BYTES)
        opened.sendto(answer, whom)
        return
    connection, _ = opened.accept()
    with connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.sendall(answer)


def _greeted(connection: socket.socket) -> str:
    """Return the name and port that a listener of this program says; others say else."""
    connection.settimeout(_ANSWER_SECONDS)
    try:
        return _name(connection.recv(_GREETING_BYTES))
    except OSError:
        return ""


def _name(said: bytes) -> str:
    text = said.decode(errors="replace")
    return text.removeprefix(GREETING).strip() if text.startswith(GREETING) else ""


def _owners() -> dict[str, str]:
    """Return the process of each socket by its inode, as far as this user may see it."""
    found: dict[str, str] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (directory / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(descriptor.readlink())
                    if target.startswith("socket:["):
                        name = (directory / "comm").read_text().strip()
                        found[target[8:-1]] = f"{name} (pid {directory.name})"
    return found


def _address(text: str) -> str:
    """Return an address as the kernel writes it, 32 bits at a time in the host's order."""
    words = [text[start : start + 8] for start in range(0, len(text), 8)]
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


if __name__ == "__main__":
    main()
