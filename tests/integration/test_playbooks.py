"""The playbooks against this machine: from nothing to servers that answer, and what happens after.

Every test takes the fleet as the one before it may have left it, and leaves it deployed.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from runtime.cli.project import ROOT
from runtime.gateway.remote import health
from runtime.spec.services import LOOPBACK
from tests.support.models import BLOCKS, import_tiny
from tests.support.playbooks import Run, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOST = "this-machine"
UNIT = "stagefleet-test-stage-{}"


@dataclass
class Site:
    """A fleet of two stages on this machine, below a directory of its own."""

    directory: Path
    model: Path
    ports: list[int]
    serving: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory"

    def write(self) -> None:
        site = {
            "name": "test",
            "authority": str(self.directory / "authority"),
            "install": {"scope": "user", "root": str(self.root)},
            "model": {"path": str(self.model), "total_blocks": BLOCKS, "splits": [2]},
            "serving": {"dtype": "float32", "device": "cpu", "threads": 1} | self.serving,
        }
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "runtime_venv": sys.prefix,
            "fleet_host": {
                "addresses": [LOOPBACK],
                "ports": {"gateway": self.ports[0]},
                "stages": [
                    {"stage": 0, "dht_port": self.ports[1], "rpc_port": self.ports[2]},
                    {"stage": 1, "dht_port": self.ports[3], "rpc_port": self.ports[4]},
                ],
            },
        }
        hosts = {"all": {"hosts": {HOST: host}, "vars": {"fleet": site}}}
        self.inventory.mkdir(parents=True, exist_ok=True)
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))

    def play(self, verb: str, *arguments: str) -> Run:
        self.write()
        return play(verb, self.inventory, arguments)

    def succeed(self, verb: str, *arguments: str) -> Run:
        run = self.play(verb, *arguments)
        assert run.code == 0, run.output
        return run

    def states(self) -> dict[str, str]:
        """Return what supervisord says of each service, or nothing where none runs."""
        run = self.root / "run"
        if not run.exists():
            return {}
        done = subprocess.run(
            [run / "bin/supervisorctl", "--configuration", run / "supervisord.conf", "status"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = re.findall(r"^(\S+) +([A-Z]+) +(?:pid (\d+))?", done.stdout, re.MULTILINE)
        return {name: pid or state for name, state, pid in found}

    def files(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.suffix not in {".log", ".pyc"}
        }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny("llama", tmp_path_factory.mktemp("model"))[1]


@pytest.fixture(scope="module")
def ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(5)]
        return [opened.getsockname()[1] for opened in sockets]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model: Path, ports: list[int]) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), model, ports)
    site.succeed("site")
    yield site
    site.succeed("service", "-e", "service_verb=stop")
    assert site.states() == {}


def changed(run: Run) -> int:
    """Return how many tasks changed something."""
    return run.count(HOST, "changed")


def test_a_check_of_a_virgin_host_fails_nothing_and_changes_nothing(
    tmp_path: Path, model: Path, ports: list[int]
) -> None:
    site = Site(tmp_path, model, ports)
    run = site.succeed("site", "--check", "--diff")
    assert changed(run) > 0
    assert '+  "stage": 1' in run.output
    assert not site.root.exists()
    assert not (tmp_path / "authority").exists()
    assert changed(site.succeed("service", "-e", "service_verb=stop")) == 0
    assert "nothing is deployed" in site.play("service", "-e", "service_verb=start").output


def test_a_deployed_pipeline_is_complete(site: Site) -> None:
    assert health(f"http://{LOOPBACK}:{site.ports[0]}", seconds=30)["pipeline"] == "complete"


def test_the_second_run_changes_nothing(site: Site) -> None:
    before = site.states(), site.files()
    assert changed(site.succeed("site", "--check", "--diff")) == 0
    assert changed(site.succeed("site")) == 0
    assert (site.states(), site.files()) == before


def doctor(site: Site, *arguments: str) -> tuple[int, dict[tuple[str, str], Any], Any]:
    """Return how the doctor ends, its findings by check and subject, and its whole report."""
    site.write()
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "doctor", "-i", site.inventory, "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    return (
        done.returncode,
        {(each["check"], each["about"]): each for each in report["findings"]},
        report,
    )


def test_the_doctor_finds_a_deployed_pipeline_well(site: Site) -> None:
    _, found, report = doctor(site)
    bad = [each for each in report["findings"] if each["verdict"] == "fail"]
    assert not bad
    assert "over 2 stages" in found["pipeline.token", ""]["evidence"]
    assert "2 servers, every block is served" in found["swarm.view", ""]["evidence"]
    assert found["service.running", "stage-1"]["verdict"] == "ok"
    assert "held by" in found["ports.free", f"{site.ports[4]}/tcp"]["evidence"]
    assert found["clock.offset", ""]["verdict"] == "ok"


def test_the_doctor_says_what_changed_since_its_last_run(site: Site) -> None:
    doctor(site)
    site.succeed("service", "-e", "service_verb=stop", "-e", "service_stage=1")
    code, found, report = doctor(site)
    site.succeed("service", "-e", "service_verb=start", "-e", "service_stage=1")
    assert code == 2
    assert found["service.running", "stage-1"]["verdict"] == "fail"
    assert "./fleet service start" in found["service.running", "stage-1"]["remedy"]
    assert found["pipeline.token", ""]["verdict"] == "fail"
    assert ("service.running", "stage-1", "ok", "fail") in {
        (each["check"], each["about"], each["before"], each["now"]) for each in report["changes"]
    }


def test_a_changed_setting_restarts_what_it_concerns_and_nothing_else(site: Site) -> None:
    before = site.states()
    site.ports[0] = _free_port()  # the gateway belongs to stage 0 alone
    told = site.succeed("site", "--check", "--diff")
    assert changed(told) > 0
    assert site.states() == before
    site.succeed("site")
    after = site.states()
    assert after[UNIT.format(0)] != before[UNIT.format(0)]
    assert after[UNIT.format(1)] == before[UNIT.format(1)]
    assert health(f"http://{LOOPBACK}:{site.ports[0]}", seconds=30)["pipeline"] == "complete"


def test_a_refused_configuration_leaves_everything_as_it_is(site: Site) -> None:
    before = site.states(), site.files()
    there, site.model = site.model, site.directory / "no-model"
    try:
        run = site.play("site")
        assert run.code != 0
        assert re.search(r"no-model", run.output), run.output
        assert "failed to validate" in run.output
        assert (site.states(), site.files()) == before
    finally:
        site.model = there


def test_an_inventory_that_cannot_be_built_is_refused_before_a_host_is_touched(site: Site) -> None:
    site.serving["dtyp"] = "float32"
    try:
        run = site.play("site")
    finally:
        del site.serving["dtyp"]
    assert run.code != 0
    assert "did you mean 'dtype'?" in run.output
    assert "Gathering Facts" not in run.output


def test_a_service_that_never_becomes_healthy_shows_its_log(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        used, site.ports[4] = site.ports[4], taken.getsockname()[1]
        try:
            refused = site.play("site")
            run = site.play(
                "site", "-e", "health_timeout_seconds=20", "-e", "preflight_ignore=true"
            )
        finally:
            site.ports[4] = used
    assert refused.code != 0
    assert re.search(r"port \d+ \(rpc of stage 1\) is taken by", refused.output), refused.output
    assert changed(refused) == 0
    assert run.code != 0
    assert f"{UNIT.format(1)} did not become healthy" in run.output
    assert re.search(r"port \d+ \(rpc\) is taken by", run.output), run.output
    site.succeed("site")


def test_a_stage_that_left_the_host_takes_its_service_with_it(site: Site) -> None:
    extra = site.root / "programs" / f"{UNIT.format(7)}.ini"
    extra.write_text(f"[program:{UNIT.format(7)}]\ncommand = sleep 1000\n")
    (site.root / "config" / "stage-7.json").write_text("{}")
    assert changed(site.succeed("site")) > 0
    assert not extra.exists()
    assert not (site.root / "config" / "stage-7.json").exists()
    assert set(site.states()) == {UNIT.format(0), UNIT.format(1)}


def test_the_verbs_of_service(site: Site) -> None:
    def verb(name: str, *arguments: str) -> Run:
        return site.succeed("service", "-e", f"service_verb={name}", *arguments)

    before = site.states()
    shown = site.succeed("service")
    assert changed(shown) == 0
    assert re.search(rf"{UNIT.format(1)} +RUNNING +pid {before[UNIT.format(1)]}", shown.output)
    assert "stage ready" in verb("logs", "-e", "service_stage=1").output

    one = ("-e", "service_stage=1")
    assert changed(verb("stop", "--check", *one)) == 1
    assert site.states() == before
    assert changed(verb("stop", *one)) == 1
    assert changed(verb("stop", *one)) == 0
    assert site.states() == before | {UNIT.format(1): "STOPPED"}
    assert changed(verb("start", *one)) == 1
    assert changed(verb("start", *one)) == 0
    assert changed(verb("restart", "-e", "service_stage=0")) == 1
    assert site.states()[UNIT.format(0)] not in {before[UNIT.format(0)], "STOPPED"}

    assert changed(verb("stop")) == 1
    assert changed(verb("stop")) == 0
    assert site.states() == {}
    assert changed(verb("start")) == 1
    assert set(site.states()) == set(before)


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("service_verb=strat", "must be one of: start, stop, restart, status, logs"),
        ("service_stage=7", "service_stage=7 is no stage of this fleet; choose one of 0, 1 or all"),
    ],
)
def test_a_wrong_verb_or_stage_is_refused_before_a_host_is_touched(
    site: Site, argument: str, advice: str
) -> None:
    run = site.play("service", "-e", argument)
    assert run.code != 0
    assert advice in " ".join(run.output.split())
    assert "Gathering Facts" not in run.output


def test_a_killed_supervisord_leaves_nothing_behind_and_is_replaced(site: Site) -> None:
    before = site.states()
    pid = int((site.root / "run" / "supervisord.pid").read_text())
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    assert changed(site.succeed("site")) > 0
    after = site.states()
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())


def test_a_removed_fleet_leaves_nothing(site: Site) -> None:
    name = ("-e", "destroy_fleet=test")
    before = site.states()
    assert changed(site.succeed("destroy", "--check", *name)) > 0
    assert site.states() == before
    pids = [int((site.root / "run" / "supervisord.pid").read_text()), *map(int, before.values())]
    assert changed(site.succeed("destroy", *name)) > 0
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not site.root.exists()
    assert changed(site.succeed("destroy", *name)) == 0


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as opened:
        port: int = opened.getsockname()[1]
        return port
