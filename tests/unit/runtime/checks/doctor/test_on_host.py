"""The program that runs on hosts: as a whole in a process of its own, and its parts here."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.checks.doctor.asked import Moment, program, requests
from runtime.checks.doctor.on_host import disks, machine, network
from runtime.checks.doctor.seen import read
from runtime.spec.plan import plans
from tests.support.doctor import a_fleet

SYSTEM_PYTHON = "/usr/bin/python3"


def test_the_program_needs_nothing_but_python() -> None:
    fleet = a_fleet()
    request = requests(fleet, plans(fleet, {}), Moment.NOW)["gpu-0"]
    # Nobody has these addresses; pings to them would be waited for.
    request["paths"] = []
    asked = time.time()
    done = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-c", program()],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout) | {"asked": asked, "answered": time.time()}
    seen = read("gpu-0", said)
    assert seen.machine is not None
    assert seen.memory is not None
    assert seen.memory.total >= seen.memory.available > 0
    assert seen.asked <= seen.time.start <= seen.time.end <= seen.answered
    assert seen.swarm is not None
    assert "refused" in seen.swarm.problem
    # What a single argument of Linux holds.
    assert len(program()) < 128 * 1024


def test_a_listener_is_found_with_its_command() -> None:
    listen = (
        "import socket, sys; opened = socket.create_server(('127.0.0.1', 0)); "
        "print(opened.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", listen]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        (found,) = network.sockets_of([{"protocol": "tcp", "port": port}])
        child.communicate()
    assert found["port"] == port
    # Its own, and that of the one above it; who started this one may be gone.
    assert "import socket" in found["commands"][0]
    assert "pytest" in found["commands"][1]


def test_a_way_to_itself_carries_what_loopback_does() -> None:
    found = network.paths([{"id": "here", "address": "127.0.0.1"}])["here"]
    if found["problem"] == "this account may send no ping":
        pytest.skip("only root may send pings here")
    assert found["link"] == found["largest"] == 65535
    assert found["milliseconds"] > 0


def test_a_directory_that_is_not_there_is_that_of_its_parent(tmp_path: Path) -> None:
    (found,) = disks.seen({"code": str(tmp_path / "not" / "there")})
    assert found["free"] == disks.seen({"code": str(tmp_path)})[0]["free"] or found["free"] > 0
    assert tmp_path.is_relative_to(found["mount"])


def test_speeds_are_measured_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "block-0000.safetensors").write_bytes(bytes(3 * 2**20 + 5))
    found = disks.speeds({"write": str(tmp_path), "read": str(tmp_path / "model")})
    assert found["read"]["bytes"] == 3 * 2**20 + 5
    assert found["write"]["bytes"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_models_missing_files_are_named(tmp_path: Path) -> None:
    manifest = {
        "block_bytes": [4],
        "embeddings_bytes": 1,
        "head_bytes": 1,
        "dtype": "float32",
        "files": [{"name": "a", "bytes": 1}, {"name": "b", "bytes": 2}],
    }
    assert "No such file" in disks.model(str(tmp_path))["problem"]
    (tmp_path / "stagefleet.json").write_text(json.dumps(manifest))
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert disks.model(str(tmp_path))["wrong_files"] == ["b"]


def test_modules_that_no_kernel_has_are_not_there() -> None:
    found = machine.modules(["no-such-module"])
    assert found["modules"] == {"no-such-module": ""}


def test_a_program_that_hangs_is_given_up() -> None:
    code, text = machine.said("sleep", "60", seconds=0.2)
    assert code is None
    assert "has not ended" in text
