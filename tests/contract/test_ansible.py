"""Playbooks, inventories, the filters and what the roles render: each as its reader reads it."""

import configparser
import functools
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Ansible replaces sys.intern by an object of its own; torch, which other tests of the same run
# need, cannot be loaded after that.
import torch._dynamo  # noqa: F401 - loaded for its own sake
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from supervisor.options import ServerOptions, UnhosedConfigParser

from runtime.spec.inventory import Inventory
from runtime.spec.plan import plans
from runtime.spec.units import stage_units
from tests.support.inventories import read_as_if_made

ROOT = Path(__file__).parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
INVENTORIES = sorted(path for path in (ROOT / "inventories").iterdir() if path.is_dir())
TEMPLATES = ROOT / "roles" / "unit" / "templates"
# Those that others import.
_VERBLESS = {"derive", "drivers", "gpus", "links", "links_back", "windows_machines"}
_TASKS = {
    f"ansible.builtin.{name}"
    for name in ("set_fact", "fail", "group_by", "debug", "import_role", "import_tasks")
}
_PLAY_KEYS = {
    *("name", "hosts", "become", "gather_facts", "gather_subset", "any_errors_fatal", "tags"),
    *("serial", "vars_prompt", "pre_tasks", "tasks", "post_tasks", "roles"),
}
_WORST_EXPOSURE = 2.5

each_inventory = pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
each_playbook = pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.name)


def filters() -> ModuleType:
    path = ROOT / "playbooks" / "filter_plugins" / "stagefleet.py"
    spec = importlib.util.spec_from_file_location("stagefleet_filters", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def read(inventory: Path) -> Inventory:
    with tempfile.TemporaryDirectory() as place:
        return read_as_if_made(inventory, Path(place))


def plan_of(inventory: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return an inventory's variables by host, and what the filter makes of them."""
    variables = read(inventory).variables
    return variables, filters().fleet_plans(variables)


@each_playbook
def test_playbooks_say_how_to_use_them(playbook: Path) -> None:
    if playbook.stem not in _VERBLESS:
        usage = rf"^# Usage: ansible-playbook -i inventories/<site> playbooks/{playbook.name}\b"
        assert re.search(usage, playbook.read_text(), re.MULTILINE)


@each_playbook
def test_playbooks_are_lists(playbook: Path) -> None:
    for play in yaml.safe_load(playbook.read_text()):
        if "ansible.builtin.import_playbook" in play:
            assert set(play) == {"name", "ansible.builtin.import_playbook"}
            continue
        assert set(play) <= _PLAY_KEYS
        for part in ("pre_tasks", "tasks", "post_tasks"):
            for task in play.get(part, []):
                assert set(task) & _TASKS, task
        for role in play.get("roles", []):
            name = role["role"]
            assert role.get("tags", [name]) == [name]
            assert all(key.startswith(f"{name}_") for key in role if key not in {"role", "tags"}), (
                role
            )


def test_the_site_playbook_is_imports_only() -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
    assert all("ansible.builtin.import_playbook" in play for play in plays)


@each_inventory
def test_inventories_can_be_built(inventory: Path) -> None:
    fleet = read(inventory).fleet
    assert fleet.stages
    assert plans(fleet, {}).keys() == fleet.hosts.keys()


@each_inventory
def test_the_specification_is_plain_data_with_a_schema(inventory: Path) -> None:
    text = (inventory / "group_vars" / "all" / "fleet.yml").read_text()
    assert "{{" not in text
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n---\n", text)
    assert found
    schema = (inventory / "group_vars" / "all" / found[1]).resolve()
    assert schema == ROOT / "docs" / "reference" / "fleet.schema.json"


@each_inventory
def test_the_filter_gives_the_same_plans_as_the_command_line(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No authority of a fleet that was deployed from here.
    monkeypatch.setenv("HOME", str(tmp_path))
    found = filters().fleet_plans(read(inventory).variables)
    assert found["problems"] == ""
    assert found["plans"] == {
        name: json.loads(plan.model_dump_json())
        for name, plan in plans(read(inventory).fleet, {}).items()
    }


def test_the_filter_tells_problems_in_the_operators_words() -> None:
    found = filters().fleet_plans({"a": {"fleet": {"nmae": "x"}, "fleet_hosts": {}}})
    assert found["plans"] == {}
    assert "unknown variable 'fleet_hosts'; did you mean 'fleet_host'?" in found["problems"]


def test_the_filter_reads_names_of_other_variables_only() -> None:
    class Untouchable(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            assert key != "vault_password"
            return super().__getitem__(key)

    variables, _ = plan_of(ROOT / "inventories" / "local")
    watched = {name: Untouchable(host, vault_password="secret") for name, host in variables.items()}
    assert filters().fleet_plans(watched)["problems"] == ""


def test_systemd_is_refused_where_it_does_not_run() -> None:
    _, found = plan_of(ROOT / "inventories" / "sample")
    plan = found["plans"]["gpu-a"]
    assert filters().fleet_supervisor(plan, "systemd") == "systemd"
    assert filters().fleet_supervisor(plan, "docker-init") == "supervisord"
    with pytest.raises(AnsibleFilterError, match="asks for supervisor systemd, but docker-init"):
        filters().fleet_supervisor(plan | {"supervisor": "systemd"}, "docker-init")
    with pytest.raises(AnsibleFilterError, match="the scope is user"):
        filters().fleet_supervisor(plan | {"supervisor": "systemd", "scope": "user"}, "systemd")


def units(**changes: object) -> list[dict[str, Any]]:
    """Return units as the playbook passes them on, with a release path that needs quoting."""
    _, found = plan_of(ROOT / "inventories" / "sample")
    return [
        {**unit, **changes}
        for plan in found["plans"].values()
        for unit in filters().fleet_units(plan, shutil.which("env"), "/srv/100% $HOME's")
    ]


def rendered(template: str, unit: dict[str, Any], systemd: str = "252") -> str:
    variables = {
        "item": unit,
        "ansible_facts": {"systemd": {"version": systemd}, "user_id": "root"},
        "unit_user": "daemon",
        "unit_group": "daemon",
        "unit_home": "/var/lib/stagefleet",
        "unit_start_seconds": 1800,
        "unit_log_directory": "/var/log",
        "unit_cache_directory": "/var/cache/stagefleet/lab",
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    text = templar.template(trust_as_template((TEMPLATES / template).read_text()))
    assert isinstance(text, str)
    return text


def test_supervisord_reads_its_programs_as_they_are_meant() -> None:
    for unit in units():
        options = ServerOptions()
        parser = UnhosedConfigParser()
        parser.expansions = options.environ_expansions
        parser.read_string(rendered("program.ini.j2", unit))
        (group,) = options.process_groups_from_parser(parser)
        (program,) = group.process_configs
        command = shlex.split(program.command)
        assert command[command.index(unit["command"][0]) :] == unit["command"]
        assert unit["environment"].items() <= program.environment.items()
        assert program.environment["STAGEFLEET_DIGEST"] == unit["digest"]
        assert program.autorestart
        assert program.killasgroup


def test_a_unit_of_systemd_says_what_it_is_meant_to() -> None:
    for unit in units():
        text = rendered("unit.service.j2", unit)
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment]
        parser.read_string(text)
        service = parser["Service"]
        assert parser["Unit"]["X-Stagefleet-Digest"] == unit["digest"]
        assert service["Restart"] == "always"
        assert service["TimeoutStopSec"] == str(unit["stop_seconds"])
        assert ("PrivateDevices" in service) is not unit["gpu"]
        assert "RestartSteps" not in service
        assert "RestartSteps=" in rendered("unit.service.j2", unit, systemd="257")
        assert "PYTHONPATH=/srv/100%% $HOME's" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("gpu", [False, True])
def test_systemd_accepts_the_unit_and_finds_it_tight(gpu: bool, tmp_path: Path) -> None:
    unit = units(gpu=gpu)[0]
    path = tmp_path / f"{unit['name']}.service"
    path.write_text(rendered("unit.service.j2", unit))

    def analyze(*arguments: str) -> str:
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", *arguments, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert str(path) not in analyze("verify", "--recursive-errors=no", "--man=no")
    found = re.search(r"Overall exposure level.*: ([0-9.]+)", analyze("security", "--offline=true"))
    assert found
    assert float(found[1]) <= _WORST_EXPOSURE


def test_what_a_unit_runs_is_what_the_plan_says() -> None:
    (plan,) = plans(read(ROOT / "inventories" / "local").fleet, {}).values()
    unit = stage_units(plan, "/venv/bin/python", "/releases/1")[0]
    assert unit.command[:3] == ("/venv/bin/python", "-m", "runtime")
    assert unit.environment["PYTHONPATH"] == "/releases/1"
    assert unit.command[-1] == plan.stages[0].config_path
