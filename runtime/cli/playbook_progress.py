"""A playbook run of which only the progress is shown: one line that says what is being done."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.cli.output import messages
from runtime.cli.project import playbook_command, playbook_environment
from runtime.errors import DeployError

_EVENTS = "ansible.posix.jsonl"
_END_SECONDS = 20


@dataclass
class _Outcome:
    """What a run has come to so far."""

    changed: int = 0
    failures: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


def run_quietly(verb: str, inventory: Path, arguments: list[str], title: str) -> int:
    """Run a playbook behind a progress line; return how many tasks changed something.

    Raises:
        DeployError: it failed; the messages of the failed tasks are in it.
    """
    environment = playbook_environment() | {"ANSIBLE_STDOUT_CALLBACK": _EVENTS}
    process = subprocess.Popen(
        playbook_command(verb, inventory, arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C reaches this process alone, which then ends the playbook as a whole.
        start_new_session=True,
    )
    outcome = _Outcome()
    try:
        with messages.status(title) as line:
            for task in _tasks(process.stdout or (), outcome):
                line.update(f"{title}: {task}")
        process.wait()
    except KeyboardInterrupt:
        _interrupt(process)
        raise
    if process.returncode != 0:
        told = outcome.failures or outcome.strays[-20:]
        raise DeployError(
            f"playbooks/{verb}.yml failed:\n" + "\n".join(told),
            hint=f"the whole output: ansible-playbook -i {inventory} playbooks/{verb}.yml",
        )
    return outcome.changed


def _interrupt(process: subprocess.Popen[str]) -> None:
    """End a playbook and whatever it is running now, and wait until they have ended."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_END_SECONDS)
            return


def _tasks(lines: Iterable[str], outcome: _Outcome) -> Iterator[str]:
    """Yield the name of each task as it starts; note everything else in `outcome`."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            outcome.strays.append(line.rstrip())
            continue
        match event.get("_event"):
            case "v2_playbook_on_task_start" | "v2_playbook_on_handler_task_start":
                yield event["task"]["name"]
            case "v2_runner_on_failed" | "v2_runner_on_unreachable" | "v2_runner_item_on_failed":
                outcome.failures += _failures(event)
            case "v2_playbook_on_stats":
                outcome.changed = sum(host["changed"] for host in event["stats"].values())


def _failures(event: dict[str, Any]) -> Iterator[str]:
    for host, result in event["hosts"].items():
        if not result.get("ignore_errors"):
            said = [result.get("msg"), result.get("stderr")]
            text = "\n".join(str(part) for part in said if part)
            yield f"{host}: {event['task']['name']}: {text}"
