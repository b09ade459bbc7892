import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.checks import probe
from runtime.checks.ports_check import PROGRAM
from runtime.spec.services import LOOPBACK
from tests.support.swarm import free_ports


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the program as a host does: with its text alone, and nothing of this project."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", Path(PROGRAM).read_text()],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def target(port: int, protocol: str = "tcp") -> dict[str, Any]:
    return {"id": f"{protocol}/{port}", "protocol": protocol, "address": LOOPBACK, "port": port}


@pytest.fixture
def listening() -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Ports, tcp and udp, that the program listens on as the host gpu-7."""
    ports = free_ports(2)
    wanted = [
        {"protocol": "tcp", "address": LOOPBACK, "port": ports[0]},
        {"protocol": "udp", "address": LOOPBACK, "port": ports[1]},
    ]
    found = run({"listen": wanted, "name": "gpu-7", "seconds": 30})
    yield ports, found
    run({"end": [found["listener"]]})
    deadline = time.monotonic() + 10
    while psutil.pid_exists(found["listener"]) and time.monotonic() < deadline:
        time.sleep(0.05)  # it ends by itself; the deadline ends this
    assert not psutil.pid_exists(found["listener"])


def test_who_listens_is_reached_and_says_who_it_is(
    listening: tuple[list[int], dict[str, Any]],
) -> None:
    (tcp, udp), found = listening
    assert found["problems"] == {}
    dialled = run({"dial": [target(tcp), target(udp, "udp")]})["dialled"]
    assert dialled == {
        f"tcp/{tcp}": {"state": "open", "name": f"gpu-7 port {tcp}"},
        f"udp/{udp}": {"state": "open", "name": f"gpu-7 port {udp}"},
    }
    own = {
        (each["protocol"], each["port"]): each["process"]
        for each in found["sockets"]
        if each["port"] in (tcp, udp)
    }
    process = f"stagefleet-port (pid {found['listener']})"
    assert own == {("tcp", tcp): process, ("udp", udp): process}


def test_who_listens_already_is_left_alone() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        wanted = [{"protocol": "tcp", "address": LOOPBACK, "port": port}]
        found = run({"listen": wanted, "name": "gpu-7", "seconds": 30})
        assert found["listener"] is None
        (process,) = [each["process"] for each in found["sockets"] if each["port"] == port]
        assert process.endswith(f"(pid {os.getpid()})")
        # It does not say who it is, and nobody waits for it for long.
        assert run({"dial": [target(port)]})["dialled"][f"tcp/{port}"] == {
            "state": "open",
            "name": "",
        }


def test_what_is_closed_or_silent_or_nowhere_is_told_apart() -> None:
    (port,) = free_ports(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        udp = silent.getsockname()[1]
        nowhere = {"id": "name", "protocol": "tcp", "address": "no-host.invalid", "port": 1}
        dialled = run({"dial": [target(port), target(udp, "udp"), nowhere]})["dialled"]
    assert dialled[f"tcp/{port}"]["state"] == "refused"
    assert dialled[f"udp/{udp}"]["state"] == "silent"
    assert dialled["name"]["state"] == "unreachable"


def test_a_port_that_cannot_be_opened_is_named() -> None:
    wanted = [{"protocol": "tcp", "address": "192.0.2.1", "port": 9}]
    found = run({"listen": wanted, "name": "gpu-7", "seconds": 30})
    assert found["listener"] is None
    assert "Cannot assign requested address" in found["problems"]["tcp/9"]


def test_a_listener_ends_by_itself() -> None:
    (port,) = free_ports(1)
    wanted = [{"protocol": "tcp", "address": LOOPBACK, "port": port}]
    found = run({"listen": wanted, "name": "gpu-7", "seconds": 0.5})
    deadline = time.monotonic() + 10
    while psutil.pid_exists(found["listener"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # it ends by itself; the deadline ends this


def test_a_process_that_is_not_a_listener_of_ours_is_not_ended() -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        run({"end": [other.pid, 0, 2**22 + 1]})
        assert other.poll() is None
        other.kill()


def test_addresses_are_read_as_the_kernel_writes_them() -> None:
    assert probe._address("0100007F") == LOOPBACK
    assert probe._address("00000000000000000000000001000000") == "::1"
