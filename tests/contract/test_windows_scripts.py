"""What is run on Windows machines: PowerShell that a parser accepts, and that asks before it acts.

No Windows is at hand, so that nothing here says that a script does what it should.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_powershell
import yaml
from tree_sitter import Language, Node, Parser

ROLE = Path(__file__).parents[2] / "roles" / "windows_node"
SCRIPTS = sorted((ROLE / "files").glob("*.ps1"))
# What changes a machine begins with one of these verbs, or is one of these programs.
_CHANGES = re.compile(
    r"^(?:(?:Set|New|Remove|Restart|Enable|Disable)-(?!StrictMode)\w+|Invoke-Wsl)$", re.IGNORECASE
)
_ON_THE_SIDE = {"New-Object"}

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def parsed(text: str) -> Node:
    return Parser(Language(tree_sitter_powershell.language())).parse(text.encode()).root_node


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def text_of(node: Node | None) -> str:
    assert node is not None
    assert node.text is not None
    return node.text.decode()


def commands(root: Node) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every command that a script calls."""
    for node in nodes(root):
        if node.type == "command_name":
            yield node.start_point[0] + 1, text_of(node)


def parameters(root: Node) -> set[str]:
    """Return the names of a script's own parameters."""
    block = next(node for node in root.children if node.type == "param_block")
    return {
        text_of(child).lstrip("$")
        for node in nodes(block)
        if node.type == "script_parameter"
        for child in node.children
        if child.type == "variable"
    }


def calls() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each script that a task runs, and the task's arguments."""
    for path in sorted((ROLE / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            arguments = task.get("ansible.windows.win_powershell")
            if arguments:
                found = re.search(r"'(\w+\.ps1)'", arguments["script"])
                assert found, path
                yield found[1], arguments


def test_a_script_that_is_wrong_is_noticed() -> None:
    assert parsed("if ($x { 1 }\n").has_error
    assert not parsed("if ($x) { Get-Item 'a' | Where-Object { $_.Name -eq 1 } }\n").has_error


@each_script
def test_a_parser_accepts_the_script(script: Path) -> None:
    root = parsed(script.read_text())
    wrong = [node.start_point[0] + 1 for node in nodes(root) if node.is_error or node.is_missing]
    assert wrong == []


@each_script
def test_it_runs_in_check_mode_and_ends_at_its_first_error(script: Path) -> None:
    text = script.read_text()
    # Without it, Ansible does not run a script in check mode at all.
    assert "[CmdletBinding(SupportsShouldProcess)]\nparam(" in text
    assert "$ErrorActionPreference = 'Stop'\n$Ansible.Changed = $false\n" in text


def test_what_changes_a_machine_is_seen() -> None:
    found = {name for script in SCRIPTS for _, name in commands(parsed(script.read_text()))}
    changing = {name for name in found if _CHANGES.match(name)}
    assert {"Set-NetAdapterAdvancedProperty", "Restart-NetAdapter", "Invoke-Wsl"} <= changing
    assert not {"Get-NetAdapter", "Where-Object"} & changing


@each_script
def test_nothing_is_changed_before_check_mode_is_asked_about(script: Path) -> None:
    text = script.read_text()
    lines = text.splitlines()
    # A function only changes something where it is called.
    inside = {
        line
        for node in nodes(parsed(text))
        if node.type == "function_statement"
        for line in range(node.start_point[0] + 1, node.end_point[0] + 2)
    }
    for line, name in commands(parsed(text)):
        if _CHANGES.match(name) and name not in _ON_THE_SIDE and line not in inside:
            before = "\n".join(lines[: line - 1])
            assert "$Ansible.CheckMode" in before, f"{script.name}:{line}: {name}"


def test_tasks_and_scripts_agree_on_parameters() -> None:
    called = list(calls())
    assert {name for name, _ in called} == {script.name for script in SCRIPTS}
    for name, arguments in called:
        given = set(arguments.get("parameters", {}))
        given |= {one["name"] for one in arguments.get("sensitive_parameters", ())}
        assert given == parameters(parsed((ROLE / "files" / name).read_text())), name


def test_a_password_is_in_no_parameter_that_is_logged() -> None:
    for path in sorted((ROLE / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            if "windows_node_passwords[" in yaml.safe_dump(task) and "sensitive" in str(task):
                assert task["no_log"] is True, path


def test_the_script_inside_linux_is_one_that_a_shell_accepts(tmp_path: Path) -> None:
    path = tmp_path / "inside.sh"
    path.write_text(f"#!/bin/sh\n{inside_linux()}\n")
    subprocess.run(["sh", "-n", str(path)], check=True, timeout=30)
    command = [str(Path(sys.executable).with_name("shellcheck")), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def inside_linux() -> str:
    """Return what `linux.ps1` lets root's shell run in the Linux."""
    text = (ROLE / "files" / "linux.ps1").read_text()
    return text.split("@'\n", 1)[1].split("\n'@", 1)[0]
