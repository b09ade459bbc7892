"""A deployed fleet in an administrator's hands: verbs, systemd's own tools, reboots."""

import json
import re

import pytest

from tests.lab.conftest import PROMPT, TOKENS
from tests.support.lab import LabFleet
from tests.support.playbooks import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_WORST_EXPOSURE = 2.5


def test_the_verbs_of_service(deployed: LabFleet, expected: list[int]) -> None:
    def verb(name: str) -> Run:
        return deployed.succeed("service", "-e", f"service_verb={name}", "-e", "service_stage=2")

    def state() -> str:
        shown = deployed.on(
            "gpu-2", "systemctl", "show", "--property=ActiveState", deployed.unit(2)
        )
        return shown.strip().partition("=")[2]

    before = deployed.pids()
    assert f"MainPID={before['gpu-2']}" in verb("status").output
    assert "stage ready" in verb("logs").output

    stopped = verb("stop")
    assert stopped.count("gpu-2", "changed") == 1
    assert state() == "inactive"
    assert verb("start").count("gpu-2", "changed") == 1
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
    running = deployed.pids()
    assert verb("restart").count("gpu-2", "changed") == 1
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
    after = deployed.pids()
    assert after["gpu-2"] != running["gpu-2"]
    assert {host for host in before if before[host] != after[host]} == {"gpu-2"}


def test_the_hosts_own_tools_show_what_an_administrator_expects(deployed: LabFleet) -> None:
    for stage in deployed.fleet.stages:
        unit = deployed.unit(stage.stage)
        shown = deployed.on(
            stage.host,
            *("systemctl", "show", "--property=Description,User,UnitFileState,Result", unit),
        )
        assert f"Description=stagefleet lab-test: stage-{stage.stage}" in shown
        assert "User=stagefleet" in shown
        assert "UnitFileState=enabled" in shown
        assert "Result=success" in shown
        journal = deployed.on(stage.host, "journalctl", "--unit", unit, "--output=cat")
        assert "stage ready" in journal
        assert "Traceback" not in journal
        worth = deployed.on(
            stage.host, *("systemd-analyze", "security", "--json=short", "--no-pager", unit)
        )
        exposures = [float(row["exposure"] or 0) for row in json.loads(worth)]
        assert exposures
        overall = deployed.on(
            stage.host, "systemd-analyze", "security", "--no-pager", unit
        ).splitlines()[-1]
        found = re.search(r"exposure level .*: ([0-9.]+)", overall)
        assert found
        assert float(found[1]) <= _WORST_EXPOSURE


def test_a_fleet_comes_back_from_the_reboot_of_any_host(
    deployed: LabFleet, expected: list[int]
) -> None:
    for host in deployed.fleet.hosts:
        before = deployed.pids()
        deployed.reboot(host)
        assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
        after = deployed.pids()
        assert {name for name in before if before[name] != after[name]} == {host}


def test_a_fleet_comes_back_from_a_power_cut_of_all_hosts(
    deployed: LabFleet, expected: list[int]
) -> None:
    hosts = list(deployed.fleet.hosts)
    for host in hosts:
        deployed.machine(host).kill()
    deployed.built().boot(hosts)
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
