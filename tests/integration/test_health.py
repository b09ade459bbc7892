"""Waiting for services of several hosts, one of which never does its work."""

import sys
from pathlib import Path

import pytest
import yaml

from runtime.cli.project import playbook_environment
from tests.support.playbooks import Run, run_command

pytestmark = pytest.mark.timeout(300)

_PROBLEM = "error: port 8004 (rpc) is taken by 'sshd' (pid 1)"


def waited(directory: Path, *health: str, seconds: int) -> Run:
    """Let a host for each health command wait for its service, and return what is said."""
    hosts = {
        f"host-{number}": {
            "health_units": [
                {"name": f"service-{number}", "environment": {}, "health": ["sh", "-c", command]}
            ]
        }
        for number, command in enumerate(health)
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": local}}))
    role = {
        "role": "health",
        "health_supervisor": "supervisord",
        "health_log_directory": str(directory),
        "health_timeout_seconds": seconds,
    }
    play = {
        "name": "Wait",
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "roles": [role],
        "post_tasks": [{"name": "Go on", "ansible.builtin.debug": {"msg": "all is well"}}],
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", str(directory / "hosts.yml"), str(directory / "play.yml")]
    return run_command(command, playbook_environment() | {"ANSIBLE_NOCOLOR": "1"})


def test_the_log_of_the_service_that_is_ill_is_shown_although_others_are_well(
    tmp_path: Path,
) -> None:
    (tmp_path / "service-1.log").write_text(_PROBLEM)
    run = waited(tmp_path, "true", "echo 'nobody answers' >&2; false", "true", seconds=1)
    assert run.code != 0
    assert "service-1 did not become healthy within 1 s." in run.output, run.output
    assert "nobody answers" in run.output
    assert _PROBLEM in run.output.replace("''", "'")
    assert [run.count(f"host-{number}", "failed") for number in range(3)] == [0, 1, 0]
    # Nothing else is done on the others either.
    assert "all is well" not in run.output


def test_a_service_that_becomes_healthy_is_waited_for(tmp_path: Path) -> None:
    later = tmp_path / "later"
    run = waited(tmp_path, "true", f"test -e {later} || ! touch {later}", seconds=60)
    assert run.code == 0, run.output
    assert "all is well" in run.output
