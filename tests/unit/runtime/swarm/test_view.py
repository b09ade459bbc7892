from pathlib import Path

from runtime.spec.stage import PeerLink, StageConfig
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.records import Announced, ServerInfo
from runtime.swarm.view import View
from tests.support.records import info

CONFIG = StageConfig(
    model=Path("/m"),
    stage=0,
    peers=(PeerLink(peer_id="QmA", stage=1, host="192.168.9.2", rpc_port=8003, private=True),),
)


class Looks:
    """A directory that counts how often it is asked."""

    def __init__(self, *servers: ServerInfo) -> None:
        self.servers = servers
        self.count = 0

    async def __call__(self) -> tuple[ServerInfo, ...]:
        self.count += 1
        return self.servers


async def test_the_plans_choice_comes_before_what_a_server_announces() -> None:
    known = info(addresses=(Announced("203.0.113.7", 40002, 40003),))
    found = await View(CONFIG, Looks(known)).endpoints("QmA")
    assert found == (
        Endpoint("192.168.9.2", 8003, private=True),
        Endpoint("203.0.113.7", 40003),
    )


async def test_an_unknown_server_is_found_by_its_record_only() -> None:
    other = info(peer_id="QmB", addresses=(Announced("10.0.0.9", 1, 2), Announced("h", 3, 4)))
    view = View(CONFIG, Looks(other))
    assert await view.endpoints("QmB") == (Endpoint("10.0.0.9", 2), Endpoint("h", 4))
    assert await view.endpoints("QmC") == ()


async def test_the_directory_is_asked_once_in_a_while_or_when_it_matters() -> None:
    looks = Looks(info())
    view = View(CONFIG, looks)
    for _ in range(5):
        assert await view.servers() == (info(),)
    assert looks.count == 1
    await view.servers(now=True)
    assert looks.count == 2


async def test_a_server_that_has_just_joined_is_found() -> None:
    looks = Looks(info())
    view = View(CONFIG, looks)
    await view.servers()
    looks.servers = (info(), info(peer_id="QmNew", addresses=(Announced("10.0.0.7", 1, 2),)))
    assert await view.endpoints("QmNew") == (Endpoint("10.0.0.7", 2),)
    assert looks.count == 2
