"""The playbooks of data links, run as an operator runs them, on hosts that are namespaces."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.cli.project import ROOT, playbook_environment
from tests.support.playbooks import play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"
    ),
]
_PREFIX = f"sf{os.getpid()}-play"
_HOSTS = ("desk-left", "desk-right")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@dataclass
class Site:
    """An inventory of two hosts, each a namespace of its own, with a switch between them."""

    directory: Path
    fleet: dict[str, Any]
    hosts: dict[str, dict[str, Any]]

    def namespace(self, part: str) -> str:
        return f"{_PREFIX}-{part}"

    @property
    def inventory(self) -> Path:
        path = self.directory / "hosts.yml"
        data = {"all": {"hosts": self.hosts, "vars": {"fleet": self.fleet}}}
        path.write_text(yaml.safe_dump(data))
        return path

    def proven(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return how `check-links` ends, and what it prints."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "runtime", "check-links"),
                *("-i", str(self.inventory), "--json", *arguments),
            ],
            cwd=ROOT,
            env={**playbook_environment(), "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    hosts: dict[str, dict[str, Any]] = {}
    parts = (*_HOSTS, "switch")
    site = Site(
        tmp_path,
        {
            "name": f"links-{os.getpid()}",
            "authority": str(tmp_path / "authority"),
            "model": {"path": "/srv/model", "total_blocks": 2, "splits": [1]},
            "operators": ["192.0.2.0/24"],
            "networks": [
                {"name": "cable", "cidr": "10.99.8.0/29", "mtu": 9000, "speed_gbps": 0.001}
            ],
        },
        hosts,
    )
    for part in parts:
        ip("netns", "add", site.namespace(part))
        ip("-n", site.namespace(part), "link", "set", "lo", "up")
    switch = site.namespace("switch")
    ip("-n", switch, "link", "add", "switch", "mtu", "9000", "type", "bridge")
    ip("-n", switch, "link", "set", "switch", "up")
    for number, host in enumerate(_HOSTS):
        port, namespace = f"port{number}", site.namespace(host)
        ip(
            *("-n", switch, "link", "add", port, "mtu", "9000", "type", "veth"),
            *("peer", "name", "enp5s0", "netns", namespace),
        )
        ip("-n", switch, "link", "set", port, "master", "switch", "up")
        ip("-n", namespace, "link", "set", "enp5s0", "mtu", "9000", "up")
        ip("-n", namespace, "address", "add", f"10.99.8.{number + 1}/29", "dev", "enp5s0")
        # Whatever Ansible runs on a host runs in its namespace.
        python = tmp_path / f"python-{host}"
        python.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {sys.executable} "$@"\n')
        python.chmod(0o755)
        hosts[host] = {
            "ansible_connection": "local",
            "ansible_host": f"192.0.2.{number + 1}",
            "ansible_become": False,
            "ansible_python_interpreter": str(python),
            "fleet_host": {
                "stages": [number],
                "links": [{"interface": "enp5s0", "address": f"10.99.8.{number + 1}"}],
            },
        }
    yield site
    for part in parts:
        ip("netns", "delete", site.namespace(part))


def test_links_are_proven_both_ways_and_a_hop_that_passes_less_is_found(site: Site) -> None:
    code, found = site.proven("--seconds", "1", "--streams", "2")
    assert (code, found["verdict"], found["before"]) == (0, "ok", None), found
    rows = {row["way"]["source"]: row for row in found["rows"]}
    assert set(rows) == set(_HOSTS)
    for row in rows.values():
        assert row["passes"] == 9000
        assert row["gbps"] > row["most_gbps"]
        assert 0 < row["rtt_p50_ms"] <= row["rtt_p99_ms"]

    ip("-n", site.namespace("switch"), "link", "set", "port1", "mtu", "1500")
    code, found = site.proven("--seconds", "0")
    assert (code, found["verdict"]) == (1, "bad")
    for row in found["rows"]:
        # A switch leaves room for a tag.
        assert row["passes"] in (1500, 1504)
        assert row["at_fault"] == "the path between them"
    assert found["before"]["rows"][0]["passes"] == 9000


def test_an_interface_that_is_not_there_and_an_mtu_too_large_are_refused_by_all(
    site: Site,
) -> None:
    ip("-n", site.namespace("desk-right"), "tuntap", "add", "dev", "tap0", "mode", "tap")
    site.fleet["networks"][0]["mtu"] = 65535
    site.hosts["desk-right"]["fleet_host"]["links"][0]["interface"] = "tap0"
    site.hosts["desk-left"]["fleet_host"]["links"][0]["interface"] = "enp5s7"
    found = play("network", site.inventory, ["--check", "--diff"])
    assert found.code != 0
    said = " ".join(found.output.split())
    assert "host desk-left: fleet_host.links: there is no interface 'enp5s7'" in said
    assert "did you mean 'enp5s0'?" in said
    assert "mtu 65535, but the interface 'tap0' allows at most 65521" in said
    assert [found.count(host, "changed") for host in _HOSTS] == [0, 0]
