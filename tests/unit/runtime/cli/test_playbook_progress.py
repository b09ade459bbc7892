"""An interrupted playbook ends with everything that it was running."""

import os
import subprocess
import time

import pytest

from runtime.cli import playbook_progress


def start(script: str) -> subprocess.Popen[str]:
    """Start a script in a session of its own and wait until it has said something."""
    process = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def is_alive(group: int) -> bool:
    """Return whether a process group goes on existing; init may take a moment to reap orphans."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_an_interrupt_may_be_answered() -> None:
    process = start("trap 'exit 3' INT; echo ready; while :; do sleep 0.1; done")
    playbook_progress._interrupt(process)
    assert process.returncode == 3
    assert not is_alive(process.pid)


def test_who_does_not_answer_an_interrupt_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(playbook_progress, "_END_SECONDS", 0.5)
    process = start("trap '' INT; sh -c 'sleep 100; :' & echo ready; while :; do sleep 0.1; done")
    playbook_progress._interrupt(process)
    assert process.returncode == -9
    assert not is_alive(process.pid)


def test_one_that_has_ended_already_is_no_error() -> None:
    process = start("echo ready")
    process.wait()
    playbook_progress._interrupt(process)
    assert process.returncode == 0
