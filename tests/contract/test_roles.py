"""Roles keep their contract: typed, documented arguments, and no knowledge of each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.spec.services import CATALOGUE, SSH, Place, stage_port
from runtime.spec.units import Unit

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
_IMPORTS = {f"ansible.builtin.{verb}_tasks" for verb in ("import", "include")}
_STAGES_WITH_PORTS = 10

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults" / "main.yml") or {}


def entry_points(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return found


def options(role: Path) -> dict[str, Any]:
    """Return the arguments of all entry points of a role."""
    return {
        name: option
        for entry in entry_points(role).values()
        for name, option in entry["options"].items()
    }


def tasks(role: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every task of a role, those in blocks too, with the name of its file."""
    for path in sorted([*(role / "tasks").glob("*.yml"), *(role / "handlers").glob("*.yml")]):
        pending = list(load(path))
        while pending:
            task = pending.pop(0)
            yield path.name, task
            for part in ("block", "rescue", "always"):
                pending += task.get(part, [])


def texts(role: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(role.rglob("*")):
        if path.is_file() and path.suffix in {".yml", ".j2"}:
            yield path, path.read_text()


def argument_table(role: Path) -> str:
    """Return the table of a role's arguments as its README must show it."""
    rows = ["| argument | type | default | meaning |", "|---|---|---|---|"]
    known = defaults(role)
    for name, option in options(role).items():
        kind = option["type"]
        if "elements" in option:
            kind += f" of {option['elements']}"
        if "choices" in option:
            kind = ", ".join(f"`{choice}`" for choice in option["choices"])
        default = f"`{known[name]}`" if name in known else "required"
        default = "empty" if default == "``" else default.replace("|", "\\|")
        meaning = re.sub(r"C\(([^)]*)\)", r"`\1`", " ".join(option["description"].split()))
        rows.append(f"| `{name}` | {kind} | {default} | {meaning} |")
    return "\n".join(rows)


def test_there_are_roles() -> None:
    assert {"runtime", "identity", "stage", "unit", "health", "service", "host_firewall"} <= {
        role.name for role in ROLES
    }


@each_role
def test_arguments_have_one_default_or_are_required(role: Path) -> None:
    required = {name for name, option in options(role).items() if option.get("required")}
    assert not required & set(defaults(role))
    assert required | set(defaults(role)) == set(options(role))


@each_role
def test_no_default_is_written_a_second_time(role: Path) -> None:
    assert not re.search(
        r"^\s+default:", (role / "meta" / "argument_specs.yml").read_text(), re.MULTILINE
    )


@each_role
def test_entry_points_are_task_files_and_described(role: Path) -> None:
    assert "main" in entry_points(role)
    for name, entry in entry_points(role).items():
        assert (role / "tasks" / f"{name}.yml").exists()
        assert entry["short_description"]
        assert all(option["description"] for option in entry["options"].values())


@each_role
def test_names_carry_the_role(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options(role))
    inner = set(load(role / "vars" / "main.yml") or {})
    said = set()
    for _, task in tasks(role):
        inner |= {task[key] for key in ("register",) if key in task}
        # How to connect is said in Ansible's own words.
        inner |= {name for name in task.get("vars", {}) if not name.startswith("ansible_ssh_")}
        said |= {name for name in task.get("ansible.builtin.set_fact", {}) if name != "cacheable"}
    assert all(name.startswith(f"__{role.name}_") for name in inner), inner
    assert all(name.startswith((f"{role.name}_", f"__{role.name}_")) for name in said), said


@each_role
def test_a_role_knows_no_other_role(role: Path) -> None:
    others = "|".join(other.name for other in ROLES if other != role)
    for path, text in texts(role):
        words = re.findall(rf"\b_*(?:{others})_[a-z_]+\b", text)
        # Ansible's own facts and modules, and the words of a plan, may begin alike.
        allowed = {"service_mgr", "stage_name", "unit_name"}
        assert not set(words) - allowed, path


@each_role
def test_main_is_a_table_of_contents(role: Path) -> None:
    for task in load(role / "tasks" / "main.yml"):
        assert set(task) & _IMPORTS, task
        assert set(task) <= _IMPORTS | {"name", "when", "tags", "loop", "loop_control", "vars"}


@each_role
def test_failures_that_are_forgiven_say_why(role: Path) -> None:
    for path, text in texts(role):
        lines = text.splitlines()
        for number, line in enumerate(lines):
            assert "ignore_errors" not in line, path
            if re.search(r"failed_when: false", line):
                assert lines[number - 1].lstrip().startswith("#"), f"{path}:{number + 1}"


@each_role
def test_the_readme_shows_the_arguments_as_they_are(role: Path) -> None:
    assert argument_table(role) in (role / "README.md").read_text()


def test_the_roles_unit_takes_what_the_plan_gives() -> None:
    role = ROOT / "roles" / "unit"
    assert set(options(role)["unit_list"]["options"]) == set(Unit.model_fields)


def test_ports_are_said_in_the_catalogue_only() -> None:
    # The port of SSH is two digits, which many other things are too.
    ports = {service.port for service in CATALOGUE if service is not SSH} | {
        stage_port(service, stage)
        for service in CATALOGUE
        if service.runs_on is Place.EVERY_STAGE
        for stage in range(_STAGES_WITH_PORTS)
    }
    pattern = re.compile(rf"\b(?:{'|'.join(map(str, sorted(ports)))})\b")
    paths = [ROOT / "ansible.cfg", *(ROOT / "playbooks").rglob("*"), *(ROOT / "roles").rglob("*")]
    for path in paths:
        if path.is_file() and path.suffix != ".pyc":
            assert not pattern.search(path.read_text()), path
