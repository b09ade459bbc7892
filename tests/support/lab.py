"""A fleet on hosts of the lab: what it should be, what playbooks make of it, how it really is."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import fault, requirements
from lab.build import Lab
from lab.errors import LabError
from lab.machine import Machine
from lab.network import inside
from lab.place import STATE
from lab.process import run, succeeds
from lab.ssh import operator_environment
from lab.topology import ADDRESSES_VARIABLE, OPERATOR
from runtime.cli.project import ROOT, playbook_environment
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import GROUPS_VARIABLE, read_inventory
from tests.support.playbooks import Run, play

NAME = "lab-test"
_ANSWER_SECONDS = 120
_REBOOT_SECONDS = 120


def variables(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the hosts of inventories/lab with their variables, and its `fleet`, for a lab of NAME.

    It is the inventory that users get, except for what must not be shared with a lab of theirs.
    """
    inventory = read_inventory(ROOT / "inventories" / "lab")
    hosts = copy.deepcopy(inventory.variables)
    site = next(iter(hosts.values()))["fleet"]
    site |= {"name": NAME, "authority": str(directory / "authority")}
    # No step of these tests takes long; a lost host is noticed sooner.
    site["serving"] |= {"step_timeout_seconds": 15}
    for host in hosts.values():
        del host["fleet"]
        text = host["ansible_ssh_common_args"]
        host["ansible_ssh_common_args"] = text.replace(f"{STATE}/lab/", f"{STATE}/{NAME}/")
    # One of each kind: ufw is installed there and off, firewalld runs; see tests/lab/conftest.py.
    hosts["gpu-1"]["fleet_host"]["firewall"] = "ufw"
    return hosts, site


def prepare_meanwhile() -> tuple[str, Callable[[], None]]:
    """Start to make what the lab's tests need; return what to say of it, and what ends it.

    Whether it succeeds is seen where it is needed: there it is waited for, and made if it is not.
    """
    reason = requirements.obstacle(vm=True)
    if reason:
        return f"lab: {reason}", lambda: None
    making = subprocess.Popen(
        [sys.executable, "-m", "lab", "prepare", "--vm"],
        cwd=ROOT,
        env=playbook_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        if making.poll() is None:
            os.killpg(making.pid, signal.SIGTERM)
        making.wait(60)

    lacking = ", ".join(requirements.missing(vm=True))
    installing = f", and installs the Debian packages {lacking}" if lacking else ""
    return f"lab: makes images meanwhile{installing}", end


@dataclass
class LabFleet:
    """A fleet as its inventory describes it, and the lab that has its hosts."""

    directory: Path
    hosts: dict[str, dict[str, Any]]
    site: dict[str, Any]
    lab: Lab | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        """Return the directory of the inventory, written as it is now."""
        directory = self.directory / "inventory"
        directory.mkdir(exist_ok=True)
        hosts = copy.deepcopy(self.hosts)
        groups: dict[str, dict[str, Any]] = {}
        for name, host in hosts.items():
            for group in host.pop(GROUPS_VARIABLE, ()):
                groups.setdefault(group, {"hosts": {}})["hosts"][name] = {}
        data = {"all": {"hosts": hosts, "children": groups, "vars": {"fleet": self.site}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(data))
        return directory

    @property
    def fleet(self) -> Fleet:
        """Return what the inventory describes."""
        return read_inventory(self.inventory).fleet

    def built(self) -> Lab:
        """Return the lab, which is up."""
        assert self.lab is not None
        return self.lab

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Let changes of the inventory last for a while only."""
        before = copy.deepcopy((self.hosts, self.site))
        try:
            yield
        finally:
            self.hosts, self.site = before

    def play(self, verb: str, *arguments: str) -> Run:
        """Run a playbook from the operator's place."""
        lab = self.built()
        return play(
            verb,
            self.inventory,
            arguments,
            inside(lab.place, OPERATOR),
            operator_environment(lab.place) | self.environment,
        )

    def succeed(self, verb: str, *arguments: str) -> Run:
        """Run a playbook that must not fail."""
        found = self.play(verb, *arguments)
        assert found.code == 0, found.output
        return found

    def stagefleet(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the `stagefleet` command at the operator's place."""
        lab = self.built()
        return subprocess.Popen(
            inside(lab.place, OPERATOR, sys.executable, "-m", "runtime", *arguments),
            cwd=ROOT,
            env={**playbook_environment(), **operator_environment(lab.place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def asked(self, prompt: str, tokens: int) -> subprocess.Popen[str]:
        """Start to let the fleet continue a prompt; the text comes as it is generated."""
        arguments = ("--prompt", prompt, "--max-new-tokens", str(tokens), "--greedy")
        return self.stagefleet("generate", "-i", str(self.inventory), *arguments)

    def answer(self, prompt: str, tokens: int) -> dict[str, Any]:
        """Return what the fleet continues a prompt with, and how; waits until it can."""
        arguments = ("--prompt", prompt, "--max-new-tokens", str(tokens), "--greedy", "--json")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            asked = self.stagefleet("generate", "-i", str(self.inventory), *arguments)
            said, problem = asked.communicate(timeout=_ANSWER_SECONDS)
            if asked.returncode == 0:
                found: dict[str, Any] = json.loads(said)
                return found
            assert time.monotonic() < deadline, f"no answer within {_ANSWER_SECONDS} s: {problem}"
            time.sleep(1)

    def machine(self, host: str) -> Machine:
        """Return a host of the lab."""
        return self.built().host(host)

    def mend(self) -> None:
        """Undo every fault of every host."""
        lab = self.built()
        for host in self.fleet.hosts:
            machine = lab.host(host)
            machine.resume()
            machine.boot()
            fault.heal(machine)
        for host in self.fleet.hosts:
            lab.wait(host)
            fault.empty(lab.host(host))

    def on(self, host: str, *command: str) -> str:
        """Return what a command prints that root runs on a host."""
        return run(*self.machine(host).command(*command), seconds=60)

    def runs_on(self, host: str, *command: str) -> bool:
        """Return whether a command of root succeeds on a host."""
        return succeeds(*self.machine(host).command(*command))

    def connects(self, source: str, address: str, port: int) -> bool:
        """Return whether a host can open a TCP connection."""
        probe = f"exec 3<>/dev/tcp/{address}/{port}"
        return self.runs_on(source, "timeout", "2", "bash", "-c", probe)

    def reboot(self, *hosts: str) -> None:
        """Let hosts reboot, and wait until they have."""
        before = {host: self._started(host) for host in hosts}
        for host in hosts:
            self.on(host, "systemctl", "reboot", "--no-block")
        deadline = time.monotonic() + _REBOOT_SECONDS
        for host in hosts:
            while self._started(host) in {"", before[host]}:
                assert time.monotonic() < deadline, f"{host} has not rebooted"
                time.sleep(0.2)  # between two looks; the deadline ends them
            self.built().wait(host)

    def _started(self, host: str) -> str:
        """Return when a host's systemd has started, or nothing while none answers."""
        try:
            return self.on(host, "systemctl", "show", "--property=UserspaceTimestampMonotonic")
        except LabError:
            return ""

    def host_of(self, stage: int) -> str:
        """Return the host of a stage."""
        return self.fleet.stages[stage].host

    def unit(self, stage: int) -> str:
        """Return the name of a stage's service."""
        return f"stagefleet-{NAME}-stage-{stage}.service"

    def pids(self) -> dict[str, str]:
        """Return the process id of each stage's service by its host; "0": it does not run."""
        found = {}
        for stage in self.fleet.stages:
            shown = self.on(
                stage.host, "systemctl", "show", "--property=MainPID", self.unit(stage.stage)
            )
            found[stage.host] = shown.strip().partition("=")[2]
        return found

    def config(self, stage: int) -> dict[str, Any]:
        """Return the configuration of a stage, as it is on its host."""
        path = f"/etc/stagefleet/{NAME}/stage-{stage}.json"
        found: dict[str, Any] = json.loads(self.on(self.host_of(stage), "cat", path))
        return found

    def files(self, host: str) -> dict[str, str]:
        """Return every file of a host's disk: its kind, owner, mode, and what is in it.

        Left out is what a running system and Ansible's connection write by themselves.
        """
        everything = self.on(host, "find", "/", "-xdev", "-printf", r"%p\t%y %u %g %m %l\n")
        hashes = self.on(
            *(host, "sh", "-c"),
            "find / -xdev -type f -not -path '/var/lib/lab/*' -not -path '/usr/*' -print0 "
            "| xargs -0 md5sum",
        )
        found = dict(line.split("\t", 1) for line in everything.splitlines())
        for line in hashes.splitlines():
            digest, path = line.split("  ", 1)
            found[path] = f"{found.get(path, '')} {digest}"
        alive = re.compile(
            r"/(run|tmp|var/log|var/tmp|var/lib/systemd|var/lib/dbus|root/[.]ansible|home/[^/]+/[.]ansible)(/|$)"
            r"|/(etc/machine-id|etc/[.]pwd[.]lock|etc/(passwd|group|shadow|gshadow|subuid|subgid)-)$"
            r"|.*/__pycache__(/|$)"
        )
        return {path: what for path, what in found.items() if not alive.match(path)}

    def changes(self, host: str, before: dict[str, str]) -> dict[str, tuple[str, str]]:
        """Return what has changed of a host's files: how each was, and is now; "" is: not there."""
        now = self.files(host)
        pairs = {path: (before.get(path, ""), now.get(path, "")) for path in before | now}
        return {path: (was, it_is) for path, (was, it_is) in pairs.items() if was != it_is}


def join(fleet: LabFleet, host: str) -> None:
    """Let a host of the lab that was no part of the fleet be one, without a stage."""
    variables = fleet.hosts[host]
    addresses = [*variables[ADDRESSES_VARIABLE], variables["ansible_host"]]
    variables["fleet_host"] = {"addresses": addresses}


def first_text(asked: subprocess.Popen[str], characters: int) -> str:
    """Return the first characters (ASCII) that a program prints; `communicate` has the rest."""
    assert asked.stdout is not None
    seen = b""
    # Not through the file object, which reads ahead.
    while len(seen) < characters:
        more = os.read(asked.stdout.fileno(), characters - len(seen))
        assert more, asked.communicate()
        seen += more
    return seen.decode()


def checked(fleet: LabFleet, *arguments: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Return how `check-ports` ends, and its rows by host and service."""
    asked = fleet.stagefleet("check-ports", "-i", str(fleet.inventory), "--json", *arguments)
    said, problem = asked.communicate(timeout=_ANSWER_SECONDS * 2)
    assert said, problem
    rows = json.loads(said)["rows"]
    return asked.returncode, {(row["host"], row["purpose"]): row for row in rows}


def tries(row: dict[str, Any], expected: bool) -> dict[str, str]:
    """Return how each source got on that should, or should not, get in."""
    return {
        each["probe"]["source"]: each["state"]
        for each in row["tries"]
        if each["probe"]["expected"] is expected
    }
