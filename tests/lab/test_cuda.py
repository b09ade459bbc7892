"""GPUs on real hosts: those without one are left alone, a reboot needs leave, units hold.

No host here has a GPU. The way through apt is in tests/integration/test_cuda_packages.py.
"""

import json
import sys
from pathlib import Path

import pytest

from lab.network import inside
from lab.ssh import operator_environment
from lab.topology import OPERATOR
from runtime.cli.project import playbook_environment
from runtime.spec.gpus.seen import FILES
from tests.support.lab import NAME, LabFleet
from tests.support.playbooks import Run, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOST = "gpu-2"
_UNIT = Path(FILES.unit).name
# It writes down what it is told; without a driver there is nothing else to see.
_SMI = '#!/bin/sh\necho "$@" >>/run/told-to-nvidia-smi\n'


def role(fleet: LabFleet, tasks: str, **arguments: object) -> Run:
    """Run tasks of the role on a host, as root."""
    lab = fleet.built()
    ansible = str(Path(sys.executable).with_name("ansible"))
    words = {"cuda_fleet": NAME, "cuda_files": FILES.model_dump(), **arguments}
    return run_command(
        [
            *inside(lab.place, OPERATOR, ansible, "-i", str(fleet.inventory), HOST, "--become"),
            *("-m", "ansible.builtin.include_role", "-a", f"name=cuda tasks_from={tasks}"),
            *("-e", json.dumps(words)),
        ],
        playbook_environment() | operator_environment(lab.place),
    )


def said(run: Run) -> str:
    """Return what a run said, without the lines' ends that Ansible adds."""
    return " ".join(run.output.split())


def test_hosts_without_a_gpu_say_so_and_are_left_alone(fleet: LabFleet) -> None:
    with fleet.changed():
        fleet.site["serving"] |= {"device": "auto"}
        for arguments in ((), ("--check", "--diff")):
            found = fleet.succeed("cuda", *arguments)
            for host in fleet.fleet.hosts:
                assert found.count(host, "changed") == 0
            assert found.output.count("no NVIDIA GPU: skipped") == len(fleet.fleet.hosts)
        fleet.site["serving"] |= {"device": "cuda"}
        refused = fleet.play("cuda", "--limit", HOST)
        assert refused.code != 0
        assert "no NVIDIA GPU, but a server there is to compute on cuda" in said(refused)


def test_the_driver_is_kept_loaded_also_after_a_reboot_that_was_allowed(fleet: LabFleet) -> None:
    machine = fleet.files(HOST)
    fleet.on(HOST, "sh", "-c", f"printf '%s' '{_SMI}' >/usr/local/bin/nvidia-smi")
    fleet.on(HOST, "chmod", "755", "/usr/local/bin/nvidia-smi")
    override = f"/etc/systemd/system/{_UNIT}.d"
    fleet.on(HOST, "mkdir", override)
    always = "printf '[Unit]\\nConditionPathExists=\\n'"
    fleet.on(HOST, "sh", "-c", f"{always} >{override}/no-driver.conf")
    kept = role(fleet, "persistence", cuda_persistence=True)
    assert kept.code == 0, kept.output
    assert fleet.on(HOST, "cat", "/run/told-to-nvidia-smi") == "--persistence-mode=1\n"
    again = role(fleet, "persistence", cuda_persistence=True)
    assert "CHANGED" not in again.output, again.output

    refused = role(fleet, "reboot", cuda_reboot_reason="driver 580 is installed")
    assert refused.code != 0
    assert "driver 580 is installed; its GPUs work after a reboot" in said(refused)
    # Hosts of the lab share their machine's boot id; their own start tells.
    started = fleet.on(HOST, "systemctl", "show", "--property=UserspaceTimestampMonotonic")
    done = role(fleet, "reboot", cuda_reboot_reason="a test", cuda_allow_reboot=True)
    assert done.code == 0, done.output
    now = fleet.on(HOST, "systemctl", "show", "--property=UserspaceTimestampMonotonic")
    assert now != started
    assert fleet.runs_on(HOST, "systemctl", "is-active", _UNIT)
    assert fleet.on(HOST, "cat", "/run/told-to-nvidia-smi") == "--persistence-mode=1\n"

    gone = role(fleet, "remove")
    assert gone.code == 0, gone.output
    fleet.on(HOST, "rm", "-r", override, "/usr/local/bin/nvidia-smi")
    assert {
        path for path in fleet.files(HOST).keys() ^ machine.keys() if "stagefleet" in path
    } == set()
