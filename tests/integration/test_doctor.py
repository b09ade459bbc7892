"""The preflight on this machine with four faults at once: real disk, port, kernel and clock."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.checks.doctor import history
from runtime.spec.services import LOOPBACK
from tests.support.playbooks import play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="filling a file system of its own needs root"),
]

HOST, NAME = "this-machine", "faults"
_AHEAD_SECONDS = 300
_NO_MODULE = "stagefleet_no_such_module"


def inventory(directory: Path, port: int, faulty: bool) -> Path:
    """Write an inventory of one host; with faults, its Python is told another time."""
    early = directory / "early"
    early.mkdir(exist_ok=True)
    (early / "sitecustomize.py").write_text(
        f"import time\n_now = time.time\ntime.time = lambda: _now() + {_AHEAD_SECONDS}\n"
    )
    wrapper = early / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={early} exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    site = {
        "name": NAME,
        "authority": str(directory / "authority"),
        "install": {"scope": "user", "root": str(directory / "root")},
        "model": {"path": str(directory / "model"), "total_blocks": 4, "splits": []},
        "serving": {"device": "cpu"},
        "doctor": {"modules": [_NO_MODULE] if faulty else []},
    }
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(wrapper) if faulty else sys.executable,
        "fleet_host": {"addresses": [LOOPBACK], "stages": [{"stage": 0, "rpc_port": port}]},
    }
    path = directory / "inventory"
    path.mkdir(exist_ok=True)
    hosts = {"all": {"hosts": {HOST: host}, "vars": {"fleet": site}}}
    (path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return path


def kept() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the findings of the last preflight by check and subject, as they are kept."""
    report = history.last(NAME, "before")
    assert report is not None
    return {
        (each.check, each.about): json.loads(each.model_dump_json()) for each in report.findings
    }


def test_four_faults_are_found_refused_and_their_end_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        # Seen from within only: a file system of a MiB where the fleet is to be.
        full = f'mount -t tmpfs -o size=1m none {root} && exec "$@"'
        within = ("unshare", "--mount", "sh", "-c", full, "sh")
        run = play("preflight", inventory(tmp_path, port, faulty=True), (), within)
    assert run.code != 0, run.output
    assert run.count(HOST, "changed") == 0
    said = " ".join(run.output.split())
    found = kept()

    disk = found["disk.room", str(root)]
    assert (disk["verdict"], disk["evidence"].split(" of ")[1][:7]) == ("fail", "1.0 MiB")
    assert f"du -xh --max-depth=2 {root}" in disk["remedy"]

    clock = found["clock.offset", ""]
    assert clock["verdict"] == "fail"
    assert abs(float(clock["evidence"].split()[0]) - _AHEAD_SECONDS) < 10
    assert "ahead of the controller's" in clock["evidence"]
    assert "chronyc makestep" in clock["remedy"]

    taken_port = found["ports.free", f"{port}/tcp"]
    assert taken_port["verdict"] == "fail"
    assert f"port {port} (rpc of stage 0) is taken by" in said
    assert "give this service another port in fleet_host" in said

    module = found["os.modules", _NO_MODULE]
    assert module["verdict"] == "fail"
    assert f"modprobe {_NO_MODULE}" in module["remedy"]

    # All four are what fails, and nothing else does.
    failed = {check for (check, _), each in found.items() if each["verdict"] == "fail"}
    assert failed == {"disk.room", "clock.offset", "ports.free", "os.modules"}

    healthy = inventory(tmp_path, port, faulty=False)
    assert play("preflight", healthy, ("--check",)).code == 0
    report = history.last(NAME, "before")
    assert report is not None
    changes = {each.check: (each.before, each.now) for each in report.changes}
    assert changes["clock.offset"] == ("fail", "ok")
    assert changes["ports.free"] == ("fail", "ok")
    assert changes["os.modules"] == ("fail", None)


def test_a_preflight_can_be_told_to_ignore_what_fails(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        path = inventory(tmp_path, taken.getsockname()[1], faulty=False)
        run = play("preflight", path, ("-e", "preflight_ignore=true"))
    assert run.code == 0
    assert "is taken by" in run.output
