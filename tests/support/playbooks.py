"""Playbooks run as an operator runs them, and what they said."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.cli.project import playbook_command, playbook_environment

_SECONDS = 900


@dataclass(frozen=True)
class Run:
    """What a playbook said, and how it ended."""

    code: int
    output: str

    def count(self, host: str, what: str) -> int:
        """Return a number of the recap: changed, failed, unreachable, ok."""
        found = re.search(rf"^{re.escape(host)} .*\b{what}=(\d+)", self.output, re.MULTILINE)
        assert found, self.output
        return int(found[1])


def play(
    verb: str,
    inventory: Path,
    arguments: Sequence[str] = (),
    within: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a playbook to its end; `within` is a command that runs commands somewhere else."""
    command = [*within, *playbook_command(verb, inventory, list(arguments))]
    return run_command(
        command,
        {**os.environ, **playbook_environment(), "ANSIBLE_NOCOLOR": "1", **(environment or {})},
    )


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run one of Ansible's commands to its end."""
    done = subprocess.run(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)
