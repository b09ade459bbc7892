"""Discovery where others say nothing: nothing is left behind."""

import gc
import socket
from pathlib import Path

import pytest

from runtime.checks.config import read_config
from runtime.swarm import node as module
from runtime.swarm.membership import Membership
from runtime.swarm.node import Node
from tests.support.models import import_tiny
from tests.support.swarm import change_config, make_fleet, prepare

pytestmark = pytest.mark.timeout(120)


async def test_a_peer_that_says_nothing_leaves_no_connection_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.3)
    plan = prepare(make_fleet(tmp_path, import_tiny("llama", tmp_path / "model")[1], (2,)))
    path = Path(plan.stages[1].config_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (somebody,) = {peer.rsplit("/p2p/", 1)[1] for peer in read_config(path).dht_initial_peers}
        peer = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{somebody}"
        change_config(plan, 1, dht_initial_peers=[peer])
        config = read_config(path)
        assert config.identity is not None
        node = await Node.start(config, config.identity, Membership(config.identity, config.fleet))
        await node.join()
        await node.stop()
    # What is left open says so when it is collected, and that is an error in tests.
    gc.collect()
