"""Four hosts are brought to what the inventory says: once, again, in part, and when it fails."""

import re
import shutil
from pathlib import Path

import pytest

from lab import fault
from lab.network import reachable
from runtime.cli.project import ROOT
from tests.lab.conftest import PROMPT, TOKENS
from tests.support.lab import LabFleet
from tests.support.playbooks import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_deployed_fleet_gives_the_unsplit_models_tokens(
    deployed: LabFleet, first_run: Run, expected: list[int]
) -> None:
    assert all(first_run.count(host, "changed") > 0 for host in deployed.fleet.hosts)
    answer = deployed.answer(PROMPT, TOKENS)
    assert answer["token_ids"] == expected
    assert [hop["stage"] for hop in answer["route"]] == [0, 1, 2, 3]


def test_the_second_run_changes_nothing(deployed: LabFleet) -> None:
    before = deployed.pids()
    run = deployed.succeed("site")
    assert {host: run.count(host, "changed") for host in before} == dict.fromkeys(before, 0)
    assert deployed.pids() == before


def test_a_port_is_changed_in_one_place_on_one_host_first(
    deployed: LabFleet, expected: list[int]
) -> None:
    stage = deployed.fleet.stages[1]
    old, new = stage.rpc_port, 9103
    before = deployed.pids()
    others = deployed.config(2)
    deployed.hosts["gpu-1"]["fleet_host"]["stages"] = [{"stage": 1, "rpc_port": new}]

    deployed.succeed("site", "--limit", "gpu-1")
    after = deployed.pids()
    assert {host for host in before if before[host] != after[host]} == {"gpu-1"}
    assert deployed.config(2) == others
    # The plan of one host is made of the whole fleet.
    assert [peer["stage"] for peer in deployed.config(1)["peers"]] == [0, 2, 3]

    deployed.succeed("site")
    # What it is told, what it listens on, what it tells the others, what they can reach.
    assert deployed.config(1)["rpc_port"] == new
    sockets = deployed.on("gpu-1", "ss", "--no-header", "--listening", "--tcp", "--numeric")
    assert re.search(rf":{new}\b", sockets)
    assert not re.search(rf":{old}\b", sockets)
    answer = deployed.answer(PROMPT, TOKENS)
    assert answer["token_ids"] == expected
    data = deployed.machine("gpu-1").host.nics[1].address.partition("/")[0]
    assert answer["route"][1]["address"] == f"{data}:{new}"
    # Its firewall knows too: the stage before it comes in, and an operator has nothing to do there.
    assert deployed.connects("gpu-0", data, new)
    assert not reachable(deployed.built().place, deployed.hosts["gpu-1"]["ansible_host"], new)
    unit = deployed.on("gpu-1", "systemctl", "show", "--property=ExecStart", deployed.unit(1))
    assert f"/etc/stagefleet/{deployed.site['name']}/stage-1.json" in unit


def test_a_configuration_that_the_server_refuses_changes_nothing(deployed: LabFleet) -> None:
    before = deployed.pids(), deployed.config(1)
    with deployed.changed():
        deployed.site["model"]["total_blocks"] += 1
        run = deployed.play("site")
    assert run.code != 0
    assert "total_blocks is 31, but the model in" in " ".join(run.output.split())
    assert (deployed.pids(), deployed.config(1)) == before


def test_a_release_that_does_not_start_changes_nothing(deployed: LabFleet, tmp_path: Path) -> None:
    broken = tmp_path / "checkout"
    for name in ("runtime", "requirements", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, broken / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, broken / name)
    with (broken / "runtime" / "cli" / "app.py").open("a") as module:
        module.write("\nimport a_module_that_nobody_has\n")
    before = deployed.pids()
    with deployed.changed():
        for host in deployed.hosts.values():
            host["runtime_source"] = str(broken)
        run = deployed.play("site")
    assert run.code != 0
    assert "No module named 'a_module_that_nobody_has'" in run.output
    assert deployed.pids() == before


def test_an_unreachable_host_is_named_and_nothing_is_left_half_done(
    at_risk: LabFleet, expected: list[int]
) -> None:
    deployed = at_risk
    machine = deployed.machine("gpu-3")
    before = deployed.pids()
    configs = [deployed.config(stage) for stage in range(4)]
    deployed.hosts["gpu-0"]["fleet_host"]["ports"] = {"gateway": 9080}
    deployed.environment = {"ANSIBLE_TIMEOUT": "5"}
    fault.cut(machine)
    run = deployed.play("site")
    deployed.mend()
    deployed.environment = {}
    assert run.code != 0
    assert re.search(r"gpu-3.*UNREACHABLE", run.output)
    assert run.count("gpu-3", "unreachable") == 1
    assert deployed.pids() == before
    assert [deployed.config(stage) for stage in range(4)] == configs

    deployed.succeed("site")
    assert deployed.config(0)["gateway_port"] == 9080
    after = deployed.pids()
    assert {host for host in before if before[host] != after[host]} == {"gpu-0"}
    assert deployed.answer(PROMPT, TOKENS)["token_ids"] == expected
