"""Real processes, killed, paused and stopped: clear errors, no orphans, the same peer id."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from runtime.cli.app import app
from runtime.errors import StagefleetError
from runtime.gateway.remote import events, health, swarm
from tests.support.models import import_tiny
from tests.support.swarm import Processes, gateway, swarm_of_processes, wait_until

REQUEST = {"prompts": ["Hello"], "max_new_tokens": 200, "ignore_eos": True}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Three stages; every test leaves them as it found them."""
    root = tmp_path_factory.mktemp("swarm")
    model = import_tiny("llama", root / "tiny")[1]
    with swarm_of_processes(
        root / "fleet", model, (2, 4), step_timeout_seconds=3, connect_timeout_seconds=2
    ) as found:
        _wait_until_complete(found)
        yield found


def _wait_until_complete(processes: Processes) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if health(gateway(processes.plan), 5)["pipeline"] == "complete":
            return
        time.sleep(0.1)
    raise AssertionError("the pipeline is not complete")


def _ids(processes: Processes, new_tokens: int = 8) -> list[int]:
    found = list(events(gateway(processes.plan), REQUEST | {"max_new_tokens": new_tokens}))
    ids: list[int] = found[-1]["token_ids"][0]
    return ids


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
            return True
        time.sleep(0.05)
    return False


def _revive(processes: Processes, stage: int) -> None:
    """Start a stage that has ended, on the same ports and with the same identity."""
    before = processes.log(stage).count("stage ready")
    processes.start(stage)
    deadline = time.monotonic() + 60
    while processes.log(stage).count("stage ready") == before:
        assert time.monotonic() < deadline, processes.log(stage)
        time.sleep(0.1)
    _wait_until_complete(processes)


def _generate_and(processes: Processes, disturb: Callable[[], None]) -> list[dict[str, Any]]:
    """Generate, do something after five events, and go on to the end."""
    seen = []
    for event in events(gateway(processes.plan), REQUEST):
        seen.append(event)
        if len(seen) == 5:
            disturb()
    return seen


def _peer_ids(processes: Processes) -> list[str]:
    first = next(events(gateway(processes.plan), REQUEST | {"max_new_tokens": 1}))
    return [hop["peer_id"] for hop in first["route"]]


def test_a_killed_stage_leaves_no_orphan_and_comes_back_as_itself(processes: Processes) -> None:
    ids, peers = _ids(processes), _peer_ids(processes)
    children = _children(processes.pid(1))
    assert any(child.name() == "p2pd" for child in children)
    processes.send(1, signal.SIGKILL)
    processes.wait(1)
    assert _gone(children)
    _revive(processes, 1)
    assert _peer_ids(processes) == peers
    assert _ids(processes) == ids


def test_a_killed_stage_is_seen_to_go_and_to_come_back(processes: Processes) -> None:
    url = gateway(processes.plan)
    wait_until(lambda: swarm(url, 5).complete)
    whole = swarm(url, 5)
    assert [server.stage for server in whole.servers] == [0, 1, 2]
    gone, blocks = whole.servers[2].peer_id, whole.servers[2].blocks
    processes.send(2, signal.SIGKILL)
    processes.wait(2)
    wait_until(lambda: ("went", gone) in _happened(url, whole.at))
    assert ("gap", "") in _happened(url, whole.at)
    shown = CliRunner().invoke(app, ["swarm", "--url", url])
    assert shown.exit_code == 1
    assert "nobody is about to serve it" in shown.stdout
    assert f"swarm: nobody serves blocks {blocks}" in processes.log(0)
    _revive(processes, 2)
    wait_until(lambda: ("came", gone) in _happened(url, whole.at))
    wait_until(lambda: swarm(url, 5).complete)
    assert ("covered", "") in _happened(url, whole.at)


def _happened(url: str, since: float) -> list[tuple[str, str]]:
    return [(event.kind, event.peer_id) for event in swarm(url, 5).events if event.at > since]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_killed_during_a_generation_ends_it_with_a_clear_error(
    processes: Processes, stage: int
) -> None:
    started = time.monotonic()
    with pytest.raises(StagefleetError, match=r"ended|broke"):
        _generate_and(processes, lambda: processes.send(stage, signal.SIGKILL))
    assert time.monotonic() - started < 30
    processes.wait(stage)
    _revive(processes, stage)


def test_a_paused_stage_is_waited_for_no_longer_than_was_said(processes: Processes) -> None:
    with pytest.raises(StagefleetError, match="waited 3 s for the next token"):
        _generate_and(processes, lambda: processes.send(2, signal.SIGSTOP))
    processes.send(2, signal.SIGCONT)
    _wait_until_complete(processes)
    assert len(_ids(processes)) == 8


def test_a_client_that_goes_away_frees_what_its_session_held(processes: Processes) -> None:
    def open_sessions() -> int:
        return int(health(gateway(processes.plan), 5)["sessions"])

    found = events(gateway(processes.plan), REQUEST)
    next(found)
    next(found)
    assert open_sessions() == 1
    found.close()
    deadline = time.monotonic() + 10
    while open_sessions() > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_discovery_daemon_is_replaced_and_nobody_notices(processes: Processes) -> None:
    before = _ids(processes)
    (daemon,) = [one for one in _children(processes.pid(1)) if one.name() == "p2pd"]
    daemon.kill()
    assert _ids(processes) == before
    deadline = time.monotonic() + 60
    while not any(
        one.name() == "p2pd" and one.pid != daemon.pid for one in _children(processes.pid(1))
    ):
        assert time.monotonic() < deadline, processes.log(1)
        time.sleep(0.2)
    # Long enough for the record of before to have expired.
    time.sleep(5)
    _wait_until_complete(processes)
    assert _ids(processes) == before
    # The new one goes with its server too.
    children = _children(processes.pid(1))
    processes.send(1, signal.SIGKILL)
    processes.wait(1)
    assert _gone(children)
    _revive(processes, 1)


def test_a_stage_whose_discovery_daemon_is_gone_still_stops(processes: Processes) -> None:
    (daemon,) = [one for one in _children(processes.pid(2)) if one.name() == "p2pd"]
    daemon.kill()
    processes.send(2, signal.SIGTERM)
    assert processes.wait(2, seconds=15) == 0
    _revive(processes, 2)


def test_a_stopped_stage_ends_in_order_and_frees_its_ports(processes: Processes) -> None:
    children = _children(processes.pid(2))
    processes.send(2, signal.SIGTERM)
    assert processes.wait(2) == 0
    assert _gone(children)
    _revive(processes, 2)


def test_who_asks_while_a_stage_is_started_again_waits_for_it(tmp_path: Path) -> None:
    model = import_tiny("llama", tmp_path / "tiny")[1]
    # Long enough that its record outlives the stage, and the stage is back before it would not.
    with swarm_of_processes(
        tmp_path / "fleet", model, (2,), announce_period_seconds=20
    ) as processes:
        _wait_until_complete(processes)
        ids = _ids(processes)
        processes.send(1, signal.SIGKILL)
        processes.wait(1)
        with ThreadPoolExecutor(3) as threads:
            asked = [threads.submit(_ids, processes) for _ in range(3)]
            wait_until(lambda: "session not opened" in processes.log(0))
            _revive(processes, 1)
            assert [one.result(60) for one in asked] == [ids] * 3
