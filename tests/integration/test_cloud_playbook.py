"""The playbook of the clouds' rules, against an EC2 on loopback: a check, a run, another one."""

from pathlib import Path

import pytest
import yaml

from tests.support.aws import network, serve
from tests.support.clouds import CLOUDS, cloud_hosts
from tests.support.playbooks import Run, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_playbook_shows_makes_and_removes_a_line_for_each_rule(tmp_path: Path) -> None:
    with serve() as (_, endpoint):
        vpc = network(endpoint)
        aws = CLOUDS["aws"] | {"vpc": vpc.vpc, "endpoint": endpoint}
        hosts = cloud_hosts(clouds={"aws": aws}, authority=str(tmp_path / "authority"))
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))

        def run(*arguments: str) -> Run:
            found = play("cloud", inventory, arguments)
            assert found.code == 0, found.output
            return found

        before = set(vpc.groups())
        told = run("--check", "--diff")
        assert told.count("localhost", "changed") == 1
        assert "+gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in told.output
        assert "no instance has the tag stagefleet-host=gpu-1" in " ".join(told.output.split())
        assert set(vpc.groups()) == before
        assert run().count("localhost", "changed") == 1
        assert "stagefleet-lab-gpu-1" in vpc.groups()
        assert run("--check", "--diff").count("localhost", "changed") == 0
        assert run("-e", "cloud_state=absent").count("localhost", "changed") == 1
        assert set(vpc.groups()) == before
