"""Machines from nothing and back: playbook, plugin and commands, against clouds on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.project import ROOT, playbook_environment
from runtime.spec.errors import SpecError
from runtime.spec.inventory import read_inventory
from runtime.spec.plan import plans
from tests.support.aws import IMAGE, Network, StrictEc2, network, serve
from tests.support.aws_instances import KEY
from tests.support.gcp.fake import Compute
from tests.support.gcp.machines import IMAGE as IMAGE_OF_GOOGLE
from tests.support.gcp.server import serving
from tests.support.instances import rented_hosts, write_site
from tests.support.playbooks import Run, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def served() -> Iterator[tuple[StrictEc2, str]]:
    with serve() as found:
        yield found


class Site:
    """An operator's inventory, whose cloud is an EC2 on loopback."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self.network: Network = network(endpoint)
        hosts = rented_hosts(
            "aws",
            {"type": "g5.xlarge", "image": IMAGE, "disk": 100, "key": KEY}
            | {"subnet": self.network.subnet},
            row={"vpc": self.network.vpc, "endpoint": endpoint},
            authority=str(directory / "authority"),
        )
        self.path = write_site(directory / "site", hosts)

    def play(self, *arguments: str, code: int = 0) -> Run:
        found = play("cloud", self.path, arguments)
        assert found.code == code, found.output
        return found

    def fleet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `./fleet cloud instances`, as an operator does."""
        return subprocess.run(
            [sys.executable, "-m", "cloud", "instances", *arguments, "-i", str(self.path)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def listed(self) -> dict[str, Any]:
        """Return what `ansible-inventory --list` says."""
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-inventory")),
                *("--list", "-i", str(self.path)),
            ],
            env=playbook_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {"warnings": " ".join(done.stderr.split()), **json.loads(done.stdout)}

    def living(self) -> set[str]:
        found = self.network.boto.describe_instances(
            Filters=[
                {"Name": "instance-state-name", "Values": ["running", "stopped"]},
                {"Name": "vpc-id", "Values": [self.network.vpc]},
            ]
        )["Reservations"]
        return {each["Instances"][0]["InstanceId"] for each in found}


def test_machines_are_made_known_guarded_and_gone(
    served: tuple[StrictEc2, str], tmp_path: Path
) -> None:
    site = Site(tmp_path, served[1])
    foreign = site.network.instance()
    # What is not made yet is no mistake of the inventory, but no plan either.
    with pytest.raises(SpecError, match="the addresses of gpu-0, gpu-1; their instances are not"):
        plans(read_inventory(site.path).fleet, {})

    told = site.play("--check", "--diff")
    assert told.count("localhost", "changed") == 2
    assert "+gpu-0: g5.xlarge runs" in told.output
    assert "+gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in told.output
    assert site.living() == {foreign}

    assert site.play().count("localhost", "changed") == 2
    assert site.play().count("localhost", "changed") == 0
    made = site.living() - {foreign}
    assert len(made) == 2

    # Ansible and the commands see the same hosts, without an address in any file.
    listed = site.listed()
    assert set(listed["stagefleet_hosts"]["hosts"]) == {"gpu-0", "gpu-1"}
    found = read_inventory(site.path)
    fleet, variables = found.fleet, found.variables["gpu-1"]
    host = fleet.hosts["gpu-1"]
    assert variables["ansible_host"] == host.public_ip
    assert variables["fleet_host_cloud"]["addresses"] == list(host.addresses)
    config = json.loads(plans(fleet, {})["gpu-1"].stages[0].config_text)
    assert config["public_ip"] == host.public_ip

    done = site.fleet("stop", "--host", "gpu-1")
    assert done.returncode == 0, done.stderr
    assert "of host gpu-1 is stopped: it is no host now" in site.listed()["warnings"]
    told = site.play()
    assert "is stopped: ./fleet cloud instances start" in " ".join(told.output.split())
    assert site.fleet("start").returncode == 0

    refused = site.play("-e", "cloud_state=absent", code=2)
    assert "nothing would guard the instances" in " ".join(refused.output.split())
    absent = ("-e", "cloud_state=absent", "-e", "cloud_instances=absent")
    assert site.play(*absent, "--check").count("localhost", "changed") == 2
    assert made < site.living()
    assert site.play(*absent).count("localhost", "changed") == 2
    assert site.living() == {foreign}
    assert set(site.network.groups()) == {"default"}
    assert site.play(*absent).count("localhost", "changed") == 0


def test_commands_make_show_and_end_instances_and_say_how_it_ended(
    served: tuple[StrictEc2, str], tmp_path: Path
) -> None:
    site = Site(tmp_path, served[1])
    checked = site.fleet("create", "--check")
    assert checked.returncode == 2, checked.stderr
    assert "aws: + instance gpu-0: g5.xlarge" in checked.stdout
    made = site.fleet("create", "--host", "gpu-0")
    assert made.returncode == 0, made.stderr
    assert "aws: + instance gpu-0" in made.stderr
    shown = json.loads(site.fleet("list", "--json").stdout)
    (one,) = shown["aws"]
    assert (one["host"], one["state"], one["own"]) == ("gpu-0", "running", True)
    site.network.instance(stagefleet_fleet="lab", stagefleet_host="gpu-1")
    text = site.fleet("list").stdout
    assert "made by another tool" in text
    assert site.fleet("create", "--check").returncode == 0
    assert site.fleet("create", "--host", "gpu-9").returncode == 1
    # Nobody is there to confirm.
    refused = site.fleet("terminate")
    assert refused.returncode == 1
    assert "with vol-" in refused.stderr
    assert "add --yes" in refused.stderr
    assert len(site.living()) == 2
    gone = site.fleet("terminate", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert len(site.living()) == 1


def test_a_cloud_that_cannot_be_asked_is_an_error_and_not_an_empty_fleet(tmp_path: Path) -> None:
    row = {"vpc": "vpc-12345678", "endpoint": "http://127.0.0.1:1"}
    hosts = rented_hosts(
        "aws",
        {"type": "g5.xlarge", "image": IMAGE, "disk": 100, "key": KEY, "subnet": "subnet-12345678"},
        row=row,
        authority=str(tmp_path / "authority"),
    )
    path = write_site(tmp_path / "site", hosts)
    with pytest.raises(SpecError, match=r"EC2 at http://127\.0\.0\.1:1 cannot be reached"):
        read_inventory(path)
    assert play("plan", path).code != 0


def test_the_same_playbook_makes_machines_in_googles_cloud(tmp_path: Path) -> None:
    compute = Compute()
    key = "admin:ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
    said = {"type": "g2-standard-4", "image": IMAGE_OF_GOOGLE, "disk": 100, "key": key}
    with serving(compute) as endpoint:
        hosts = rented_hosts(
            "gcp",
            said | {"zone": "europe-west4-a"},
            row={"endpoint": endpoint},
            authority=str(tmp_path / "authority"),
        )
        path = write_site(tmp_path / "site", hosts)
        made = play("cloud", path)
        assert made.code == 0, made.output
        assert made.count("localhost", "changed") == 2
        assert {name for _, name in compute.machines} == {
            "stagefleet-lab-gpu-0",
            "stagefleet-lab-gpu-1",
        }
        fleet = read_inventory(path).fleet
        assert plans(fleet, {}).keys() == fleet.hosts.keys()
        again = play("cloud", path, ["-e", "cloud_state=absent", "-e", "cloud_instances=absent"])
        assert again.code == 0, again.output
        assert compute.machines == {}
        assert compute.firewalls == {}
