"""The lab that these tests share: built once, with a fleet that is deployed on it once."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import build, requirements
from lab.process import run
from lab.ssh import ssh
from lab.topology import topology
from runtime.spec.inventory import read_inventory
from tests.support.lab import NAME, LabFleet, variables
from tests.support.pipelines import greedy_ids
from tests.support.playbooks import Run

PROMPT = "The lighthouse keeper opened the door and"
TOKENS = 24


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, sample_model: Path) -> Iterator[LabFleet]:
    """Four hosts, freshly installed, and the inventory of a fleet on them."""
    reason = requirements.obstacle()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("lab")
    fleet = LabFleet(directory, *variables(directory))
    # Of a run that was killed.
    build.down(NAME)
    wanted = topology(read_inventory(fleet.inventory))
    fleet.lab = build.up(wanted, sample_model, lambda said: print(f"lab: {said}", file=sys.stderr))
    yield fleet
    build.down(NAME)


# What administrators had there before: a tool, a rule of their own, and what makes it last.
FIREWALLS = {
    "gpu-0": (
        "nftables",
        "echo 'table inet alice { chain input { type filter hook input priority 5; tcp dport 5999 "
        "reject; }; }' >>/etc/nftables.conf && systemctl enable --now nftables",
    ),
    "gpu-1": ("ufw", "ufw allow 5000/tcp comment alice"),
    "gpu-2": (
        "firewalld",
        "systemctl enable --now firewalld && firewall-cmd --quiet --permanent --add-port=5001/tcp "
        "&& firewall-cmd --quiet --reload",
    ),
    "gpu-3": ("nftables", "true"),
}


def install_firewall(fleet: LabFleet, host: str) -> None:
    """Let an administrator install the firewall of a host and use it."""
    package, use = FIREWALLS[host]
    apt = "apt-get --yes --quiet --no-install-recommends"
    fleet.on(
        host, "sh", "-c", f"{apt} update && DEBIAN_FRONTEND=noninteractive {apt} install {package}"
    )
    fleet.on(host, "sh", "-c", use)


@pytest.fixture(scope="session")
def virgin(fleet: LabFleet) -> dict[str, dict[str, str]]:
    """The files of each host before anything is deployed, some of the operator's own among them."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: install_firewall(fleet, host), FIREWALLS))
    for host in fleet.fleet.hosts:
        # Somebody has been there before: sudo leaves a note of an administrator's first time.
        run(*ssh(fleet.built().place, host, "sudo", "true"))
        fleet.on(host, "useradd", "--create-home", "alice")
        fleet.on(host, "mkdir", "/opt/stagefleet", "/etc/stagefleet")
        # Of another fleet, whose name begins like this one's.
        other = f"/etc/systemd/system/stagefleet-{NAME}-2-stage-0.service"
        fleet.on(host, "sh", "-c", f"printf '[Service]\nExecStart=/bin/true\n' >{other}")
        for directory in ("/opt/stagefleet", "/etc/stagefleet", "/home/alice"):
            fleet.on(host, "sh", "-c", f"echo mine >{directory}/notes")
    return {host: fleet.files(host) for host in fleet.fleet.hosts}


@pytest.fixture(scope="session")
def first_run(fleet: LabFleet, virgin: dict[str, dict[str, str]]) -> Run:
    """The first deployment."""
    assert virgin
    return fleet.succeed("site")


@pytest.fixture(scope="session")
def deployed(fleet: LabFleet, first_run: Run) -> LabFleet:
    """The fleet, deployed; each test leaves it as its inventory says."""
    assert first_run.code == 0
    return fleet


@pytest.fixture
def at_risk(deployed: LabFleet) -> Iterator[LabFleet]:
    """The fleet, for tests that let its hosts suffer: every fault is undone behind them."""
    yield deployed
    deployed.mend()


@pytest.fixture(scope="session")
def expected(sample_model: Path) -> list[int]:
    """What the unsplit model continues PROMPT with."""
    (ids,) = greedy_ids(sample_model, (PROMPT,), TOKENS)
    return ids
