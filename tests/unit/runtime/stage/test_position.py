import asyncio
import contextlib
from collections.abc import Callable

import pytest

from runtime.balance.coordinate import Coordinate, distance
from runtime.errors import PeerLostError
from runtime.stage.position import MOST_DIALLED, Position
from runtime.swarm.records import ServerInfo
from tests.support.records import info

PLACES = {f"s{number:02}": Coordinate(0.02 * number, 0.0, 0.001, 0.1) for number in range(12)}
ME = Coordinate(0.05, 0.03, 0.001)


class World:
    """Servers that know where they are, some of which do not answer."""

    def __init__(self, places: dict[str, Coordinate]) -> None:
        self.places = places
        self.dialled: list[str] = []
        self.silent: set[str] = set()
        self.lost = False
        self.connected: dict[str, float] = {}

    def position(self, me: str = "me") -> Position:
        """Return a server's position that has measured nothing yet."""
        return Position(me, self.dial, lambda: self.connected, self.look)

    async def dial(self, peer_id: str) -> float | None:
        """Return how far one is; one that drops packets takes for ever, one that is gone fails."""
        self.dialled.append(peer_id)
        if peer_id in self.silent:
            raise PeerLostError("nobody answers", peer_id=peer_id)
        return distance(ME, self.places[peer_id])

    async def look(self) -> tuple[ServerInfo, ...]:
        """Return everybody's record."""
        if self.lost:
            raise PeerLostError("discovery does not answer")
        return tuple(info(peer_id=one, coordinate=at) for one, at in self.places.items())


def off(position: Position) -> float:
    """Return by how many seconds the way to anybody is wrong at most."""
    return max(abs(distance(position.said, at) - distance(ME, at)) for at in PLACES.values())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.001)  # between two looks; the timeout ends them
            if holds():
                return


async def test_a_newcomer_measures_a_few_servers_and_knows_its_way_to_all() -> None:
    world = World(PLACES)
    position = world.position("s04x")
    before = position.said
    await position.begin()
    # Those behind it, so that everybody is measured by as many others, and around.
    assert world.dialled == [f"s{number:02}" for number in (5, 6, 7, 8, 9, 10, 11, 0)]
    assert len(world.dialled) == MOST_DIALLED
    assert (before.is_known, position.said.is_known) == (False, True)
    assert off(position) < 0.03


async def test_who_does_not_answer_is_left_out_and_who_says_nothing_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(PLACES)
    world.silent = {"s00", "s01"}
    position = world.position()
    await position.begin()
    assert off(position) < 0.03

    async def nothing(_: str) -> float | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("runtime.stage.position._BEGIN_SECONDS", 0.05)
    alone = Position("me", nothing, dict, world.look)
    await alone.begin()
    assert not alone.said.is_known


async def test_nobody_is_a_reason_to_wait_or_to_end() -> None:
    world = World({})
    position = world.position()
    await position.begin()
    world.lost = True
    await position.begin()
    assert (world.dialled, position.said.is_known) == ([], False)


async def test_it_follows_connections_and_one_more_server_each_time() -> None:
    world = World(PLACES)
    world.connected = {"s00": distance(ME, PLACES["s00"])}
    position = world.position()
    running = asyncio.create_task(position.keep_measuring(0.001))
    await until(lambda: len(world.dialled) >= 3 * MOST_DIALLED)
    assert set(world.dialled) == {f"s{number:02}" for number in range(MOST_DIALLED)}
    assert off(position) < 0.03
    # Once it knows its place, it says nothing new.
    said, asked = position.said, len(world.dialled)
    await until(lambda: len(world.dialled) >= asked + 20)
    assert position.said is said
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_who_may_not_reach_all_learns_from_its_connections_alone() -> None:
    world = World(PLACES)
    world.connected = {one: distance(ME, PLACES[one]) for one in ("s00", "s05", "s11")}
    position = Position("me", None, lambda: world.connected, world.look)
    await position.begin()
    assert world.dialled == []
    assert off(position) < 0.03


async def test_client_sides_and_those_who_are_not_there_yet_are_dialled_by_nobody() -> None:
    world = World(PLACES)
    kinds: dict[str, dict[str, object]] = {"s00": {"stage": 0}, "s01": {"state": "joining"}}

    async def look() -> tuple[ServerInfo, ...]:
        return tuple(
            info(**{"peer_id": one, "coordinate": at} | kinds.get(one, {}))
            for one, at in list(PLACES.items())[:4]
        )

    await Position("me", world.dial, dict, look).begin()
    assert sorted(world.dialled) == ["s02", "s03"]
