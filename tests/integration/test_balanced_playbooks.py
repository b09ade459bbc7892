"""Playbooks bring servers that choose their blocks to hosts of their own on this machine.

Every host of the inventory is this machine under a home directory and a loopback address of its
own, so that each has its services, keys and ports to itself, with the ports of the catalogue.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.gateway.remote import events, health
from runtime.spec.host import BALANCED
from runtime.spec.services import LOOPBACK
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.playbooks import Run, play
from tests.support.swarm import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BLOCKS, TOKENS, PROMPT = 8, 8, "Hello, pipeline"
# What each host runs: four servers, one of them beside the client side.
HOSTS = {"gpu-1": ["stage-0", "server-1"], "gpu-2": ["server-1", "server-2", "server-3"]}
SERVERS = [
    (host, name) for host, names in HOSTS.items() for name in names if name.startswith("server")
]
FIFTH = "gpu-3"
_SECONDS = 60


def unit(name: str) -> str:
    """Return the name of a service."""
    return f"stagefleet-test-{name}"


@dataclass
class Site:
    """Hosts on this machine, of which some are in the group of servers that choose their blocks."""

    directory: Path
    model: Path
    gateway: int
    members: list[str] = field(default_factory=lambda: list(HOSTS))
    others: list[str] = field(default_factory=list)

    def _host(self, name: str, number: int) -> dict[str, Any]:
        home = self.directory / name
        home.mkdir(exist_ok=True)
        python = home / "python"
        python.write_text(f'#!/bin/sh\nHOME={home} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        process = os.getpid()
        more: dict[str, dict[str, Any]] = {
            "gpu-1": {"stages": [0], "ports": {"gateway": self.gateway}},
            "gpu-2": {"servers": [{}, {}, {}]},
        }
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "runtime_venv": sys.prefix,
            # Nobody else listens there, whatever else runs on this machine.
            "fleet_host": {
                "addresses": [f"127.{process >> 8 & 127 | 64}.{process & 255}.{number}"],
                **more.get(name, {}),
            },
        }

    def write(self) -> None:
        site = {
            "name": "test",
            "authority": str(self.directory / "authority"),
            "install": {"scope": "user", "root": "~/fleet"},
            "model": {"path": str(self.model), "total_blocks": BLOCKS},
            "balance": {
                "num_blocks": BLOCKS // len(SERVERS),
                "mean_balance_check_period": 5,
            },
            "serving": {
                "dtype": "float32",
                "device": "cpu",
                "threads": 1,
                "announce_period_seconds": 4,
            },
        }
        hosts = {
            name: self._host(name, number) for number, name in enumerate([*HOSTS, FIFTH], start=1)
        }
        said = {
            "all": {
                "vars": {"fleet": site},
                "hosts": {name: hosts[name] for name in self.others},
                "children": {BALANCED: {"hosts": {name: hosts[name] for name in self.members}}},
            }
        }
        self.inventory.mkdir(exist_ok=True)
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(said))

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory"

    def deploy(self, *arguments: str) -> Run:
        self.write()
        # Five servers that start on two cores, with other work on them, take their time.
        run = play("site", self.inventory, ("-e", "health_timeout_seconds=600", *arguments))
        assert run.code == 0, run.output
        return run

    def pids(self, *hosts: str) -> dict[str, str]:
        """Return what supervisord says of each service of these hosts, with its process."""
        found = {}
        for host in hosts:
            run = self.directory / host / "fleet" / "run"
            done = subprocess.run(
                [run / "bin/supervisorctl", "--configuration", run / "supervisord.conf", "status"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            for name, state, pid in re.findall(
                r"^(\S+) +([A-Z]+) +(?:pid (\d+))?", done.stdout, re.MULTILINE
            ):
                found[f"{host} {name}"] = pid or state
        return found

    def log(self, host: str, name: str) -> str:
        return (self.directory / host / "fleet" / "logs" / f"{unit(name)}.log").read_text()

    def wait_for_log(self, host: str, name: str, line: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not re.search(line, self.log(host, name)):
            assert time.monotonic() < deadline, self.log(host, name)
            time.sleep(0.2)  # between two looks; the deadline ends them

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.gateway}"

    def answer(self) -> dict[str, Any]:
        """Return the end of an answer, with the route that it took."""
        asked = {"prompts": [PROMPT], "max_new_tokens": TOKENS, "ignore_eos": True}
        found = list(events(self.url, asked))
        (route,) = (event["route"] for event in found if event["event"] == "route")
        return {**found[-1], "route": route}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"), num_hidden_layers=BLOCKS)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("s"), model, free_ports(1)[0])
    try:
        site.deploy()
        yield site
    finally:
        # A host that has left the group still has its supervisord.
        removed = play("destroy", site.inventory, ["-e", "destroy_fleet=test"])
    assert removed.code == 0, removed.output


def assert_is_whole(site: Site) -> None:
    """See that every block is served, and that the tokens are the unsplit model's."""
    # The deployment has waited for it.
    assert health(site.url, seconds=30)["pipeline"] == "complete"
    (expected,) = greedy_ids(site.model, (PROMPT,), TOKENS)
    answer = site.answer()
    assert answer["token_ids"] == [expected]
    assert [hop["start"] for hop in answer["route"][1:]] == [
        hop["end"] for hop in answer["route"][:-1]
    ]
    assert (answer["route"][0]["end"], answer["route"][-1]["end"]) == (0, BLOCKS)


def test_servers_deployed_side_by_side_serve_every_block_once(site: Site) -> None:
    assert_is_whole(site)
    assert len(site.answer()["route"]) == 1 + len(SERVERS)
    spans = []
    assert site.pids(*HOSTS).keys() == {
        f"{host} {unit(name)}" for host, names in HOSTS.items() for name in names
    }
    for host, name in SERVERS:
        log = site.log(host, name)
        assert "Selected blocks: [" in log
        ready = re.search(
            r"Load Balancing server ready, blocks=\[(.*)\], throughput=\d+\.\d\d rps", log
        )
        assert ready
        spans.append([int(block) for block in ready[1].split(", ")])
    assert sorted(block for span in spans for block in span) == list(range(BLOCKS))
    site.wait_for_log(*SERVERS[0], r"Swarm balance quality: \d+\.\d% \(initial=\d+\.\d\d, new=")


def test_a_host_that_is_added_joins_and_nobody_else_is_restarted(site: Site) -> None:
    before = site.pids(*HOSTS)
    site.members.append(FIFTH)
    site.deploy()
    assert site.pids(*HOSTS) == before
    assert site.pids(FIFTH).keys() == {f"{FIFTH} {unit('server-1')}"}
    assert "Selected blocks: [" in site.log(FIFTH, "server-1")
    assert "Load Balancing server ready, blocks=[" in site.log(FIFTH, "server-1")
    assert_is_whole(site)


def test_the_next_run_changes_nothing(site: Site) -> None:
    before = site.pids(*site.members)
    # The others are no different, and each takes its time.
    run = site.deploy("--limit", "gpu-2")
    assert run.count("gpu-2", "changed") == 0
    assert site.pids(*site.members) == before


def test_a_host_that_leaves_the_group_loses_its_server_and_nobody_else_is_restarted(
    site: Site,
) -> None:
    before = site.pids(*HOSTS)
    site.members.remove(FIFTH)
    site.others.append(FIFTH)
    site.deploy()
    assert site.pids(FIFTH) == {}
    assert site.pids(*HOSTS) == before
    fleet = site.directory / FIFTH / "fleet"
    assert [path for path in fleet.rglob("*server-1*") if path.suffix != ".log"] == []
    assert_is_whole(site)
