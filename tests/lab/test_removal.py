"""A fleet is removed: hosts are as they were before it, with what others made on them."""

import pytest

from tests.support.lab import LabFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_another_name_removes_nothing(deployed: LabFleet) -> None:
    before = deployed.pids()
    run = deployed.play("destroy", "-e", "destroy_fleet=lab")
    assert run.code != 0
    assert "the fleet of this inventory is called 'lab-test'" in " ".join(run.output.split())
    assert deployed.pids() == before


def test_hosts_are_left_as_they_were(deployed: LabFleet, virgin: dict[str, dict[str, str]]) -> None:
    name = ("-e", f"destroy_fleet={deployed.site['name']}")
    before = deployed.pids()
    told = deployed.succeed("destroy", "--check", *name)
    assert all(told.count(host, "changed") > 0 for host in before)
    assert deployed.pids() == before
    deployed.succeed("destroy", *name)
    for host, files in virgin.items():
        assert deployed.changes(host, files) == {}
    assert "stagefleet" not in deployed.on("gpu-0", "nft", "list", "ruleset")
    assert deployed.runs_on("gpu-0", "nft", "list", "table", "inet", "alice")
    assert "inactive" in deployed.on("gpu-1", "ufw", "status")
    assert "stagefleet" not in deployed.on("gpu-2", "firewall-cmd", "--get-policies")
    assert "5001/tcp" in deployed.on("gpu-2", "firewall-cmd", "--list-ports")
    again = deployed.succeed("destroy", *name)
    assert all(again.count(host, "changed") == 0 for host in before)
    assert (deployed.directory / "authority").exists()
