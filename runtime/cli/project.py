"""The checkout that the operator's commands work in: playbooks, inventories, locks."""

import os
import subprocess
import sys
from pathlib import Path

import runtime
from runtime.errors import DeployError

ROOT = Path(runtime.__file__).resolve().parent.parent
PLAYBOOKS = ROOT / "playbooks"


def playbook_command(verb: str, inventory: Path, arguments: list[str]) -> list[str]:
    """Return the command that runs a playbook: what an operator would type.

    Raises:
        DeployError: this is not a checkout with playbooks.
    """
    playbook = PLAYBOOKS / f"{verb}.yml"
    if not playbook.exists():
        raise DeployError(
            f"there is no {playbook}", hint="deploy from a checkout of stagefleet, with ./fleet"
        )
    program = Path(sys.executable).with_name("ansible-playbook")
    return [str(program), "-i", str(inventory), str(playbook), *arguments]


def playbook_environment() -> dict[str, str]:
    """Return the environment in which playbooks find their configuration and tools."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": path}


def run_playbook(verb: str, inventory: Path, arguments: list[str]) -> None:
    """Run a playbook in the foreground, with Ansible's own output.

    Raises:
        DeployError: it failed.
    """
    done = subprocess.run(
        playbook_command(verb, inventory, arguments), env=playbook_environment(), check=False
    )
    if done.returncode != 0:
        raise DeployError(
            f"playbooks/{verb}.yml ended with {done.returncode}; its output above says where",
            hint="mend what it names and run the same command again: it continues",
        )
