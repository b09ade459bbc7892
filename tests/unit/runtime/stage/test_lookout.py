import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.errors import PeerLostError
from runtime.stage.lookout import MOST_WATCHED, Lookout, needed
from runtime.swarm.records import ServerInfo
from tests.support.records import info

LIFETIME = 15.0


def server(name: str, start: int, end: int, **fields: object) -> ServerInfo:
    return info(**{"peer_id": name, "start": start, "end": end, "total_blocks": 64} | fields)


class Network:
    """Connections that end when a test says so, and servers that answer until it says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.silent: set[str] = set()
        self.dialled: list[str] = []
        self.connections: dict[str, asyncio.Event] = {}

    async def until_lost(self, peer_id: str) -> None:
        """Dial, and wait until the connection ends."""
        self.dialled.append(peer_id)
        if peer_id in self.silent:
            raise PeerLostError("nobody answers", peer_id=peer_id)
        self.connections[peer_id] = asyncio.Event()
        await self.connections[peer_id].wait()

    def end(self, peer_id: str, *, silent: bool) -> None:
        """End a connection; afterwards somebody answers there, or nobody does."""
        if silent:
            self.silent.add(peer_id)
        self.connections[peer_id].set()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def lookout(network: Network) -> AsyncIterator[Lookout]:
    found = Lookout("me", network.until_lost, LIFETIME, lambda: network.now)
    yield found
    await found.stop()


ALONE, PAIR = server("alone", 0, 8), (server("b", 8, 16), server("c", 8, 16))
ALL = (ALONE, *PAIR)


async def started() -> None:
    """Let what has been started begin."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_server_that_dies_is_gone_at_once_and_no_longer_than_its_record_would_live(
    network: Network, lookout: Lookout
) -> None:
    assert lookout.alive(ALL) == ALL
    await started()
    assert network.dialled == ["alone"]
    network.end("alone", silent=True)
    async with asyncio.timeout(10):
        await lookout.news()
    assert lookout.alive(ALL) == PAIR
    # Somebody renews its record all the same: only the link between the two is broken.
    network.now += LIFETIME
    assert lookout.alive(ALL) == ALL


async def test_a_connection_that_ends_is_no_death_while_somebody_answers(
    network: Network, lookout: Lookout
) -> None:
    lookout.alive(ALL)
    await started()
    network.end("alone", silent=False)
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.01)  # until it has been dialled again; the timeout ends it
            if network.dialled == ["alone", "alone"]:
                break
    assert lookout.alive(ALL) == ALL


async def test_who_was_never_reached_is_left_to_its_record(
    network: Network, lookout: Lookout
) -> None:
    network.silent.add("alone")
    lookout.alive(ALL)
    await started()
    assert network.dialled == ["alone"]
    assert lookout.alive(ALL) == ALL


async def test_who_is_needed_no_more_is_watched_no_more(network: Network, lookout: Lookout) -> None:
    lookout.alive(ALL)
    await started()
    assert lookout.alive((*ALL, server("d", 0, 8))) == (*ALL, server("d", 0, 8))
    network.end("alone", silent=True)
    await started()
    assert network.dialled == ["alone"]


def test_needed_are_those_who_serve_a_block_alone() -> None:
    assert needed(ALL, "me") == ("alone",)
    assert needed((*ALL, server("me", 16, 24), server("x", 24, 32, state="joining")), "me") == (
        "alone",
    )
    assert needed((server("a", 0, 8), server("b", 7, 16)), "me") == ("a", "b")
    assert needed((), "me") == ()


def test_of_many_each_is_watched_by_as_many_others() -> None:
    swarm = [server(f"s{number:03}", number, number + 1) for number in range(3 * MOST_WATCHED // 2)]
    watchers = [name for each in swarm for name in needed(swarm, each.peer_id)]
    assert {watchers.count(each.peer_id) for each in swarm} == {MOST_WATCHED}
