"""`stagefleet swarm` against a gateway that answers as told."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from runtime.cli.app import app
from runtime.errors import PeerLostError
from runtime.gateway.api import Gateway
from runtime.spec.services import LOOPBACK
from runtime.swarm.overview import Known, overview
from runtime.swarm.report import SwarmReport
from runtime.wire.messages import Status
from tests.support.records import info
from tests.support.swarm import free_ports


class FakeClient:
    """Sees a swarm of one server, or nothing."""

    end = 30
    sees = True

    async def swarm(self) -> SwarmReport:
        if not self.sees:
            raise PeerLostError("discovery does not answer", hint="try again in a moment")
        return overview(Known(at=0.0, own=info(stage=0, start=0, end=self.end), servers=()))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def url(client: FakeClient) -> Iterator[str]:
    """The address of a gateway in a thread."""
    (port,) = free_ports(1)
    up, down = threading.Event(), asyncio.Event()

    async def serve() -> None:
        status = Status("online", 0, 0, 0)
        async with Gateway(client, lambda: status, port):  # type: ignore[arg-type]  # a fake
            up.set()
            await down.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(30)
    yield f"http://{LOOPBACK}:{port}"
    loop.call_soon_threadsafe(down.set)
    thread.join()
    loop.close()


def run(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["swarm", *arguments])
    return found.exit_code, found.stdout, found.stderr


def test_a_covered_model_ends_with_0_and_missing_blocks_with_1(
    client: FakeClient, url: str
) -> None:
    code, shown, _ = run("--url", url)
    assert code == 0
    assert shown.startswith("complete · 30 blocks")
    client.end = 22
    code, shown, _ = run("--url", url + "/")
    assert code == 1
    assert "missing blocks 22 to 29: " in shown
    # Colours are for terminals.
    assert "\x1b" not in shown


def test_machines_get_the_report_itself(client: FakeClient, url: str) -> None:
    client.end = 22
    code, shown, _ = run("--url", url, "--json")
    assert code == 1
    assert SwarmReport.model_validate_json(shown).missing[0].blocks.start == 22


def test_who_cannot_be_asked_ends_with_2_and_says_what_to_do(client: FakeClient, url: str) -> None:
    client.sees = False
    code, shown, said = run("--url", url)
    assert (code, shown) == (2, "")
    assert "discovery does not answer\n  -> try again in a moment" in said
    nobody = f"http://{LOOPBACK}:{free_ports(1)[0]}"
    code, _, said = run("--url", nobody)
    assert code == 2
    assert "-> is the fleet running?" in said
    assert run("--url", "http://[")[0] == 2
    assert run("--inventory", "/nowhere")[0] == 2


def test_what_is_no_stage_0_of_this_release_is_said() -> None:
    code, _, said = run("--url", "http://localhost:1/x y")
    assert code == 2
    assert "no gateway answers" in said


def test_watching_goes_on_until_ctrl_c(client: FakeClient, url: str) -> None:
    client.end = 22
    command = [sys.executable, "-m", "runtime", "swarm", "--url", url, "--watch", "--json"]
    watching = subprocess.Popen([*command, "--every", "0.1"], stdout=subprocess.PIPE, text=True)
    try:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(3)]
        assert [line["complete"] for line in lines] == [False] * 3
        watching.send_signal(signal.SIGINT)
        # As the last look had it.
        assert watching.wait(20) == 1
    finally:
        watching.kill()
        watching.communicate()
