"""Children die with their server, even when it is killed; and only then."""

import signal
import subprocess
import sys
import time

import psutil

_SERVER = """
import subprocess, sys, time
from runtime.stage.lifeline import Lifeline
with Lifeline() as lifeline:
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    lifeline.hold()
    print(child.pid, flush=True)
    {then}
child.kill()
"""


def start(then: str) -> tuple["subprocess.Popen[str]", psutil.Process]:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(then=then)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    return server, psutil.Process(int(server.stdout.readline()))


def is_gone(process: psutil.Process) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_server_takes_its_children_along() -> None:
    server, child = start("time.sleep(300)")
    watchers = [one for one in psutil.Process(server.pid).children() if one.name() == "sh"]
    server.send_signal(signal.SIGKILL)
    server.communicate()
    assert is_gone(child)
    assert all(is_gone(watcher) for watcher in watchers)


def test_an_orderly_end_leaves_the_children_to_the_server() -> None:
    server, child = start("pass")
    server.communicate(timeout=10)
    assert server.returncode == 0
    assert is_gone(child)
