"""Stage 0's own count of sessions, and whom it avoids."""

import asyncio
from pathlib import Path

import pytest

from runtime.client.routes import Route, Routes
from runtime.errors import (
    MovedError,
    NoAnswerError,
    PeerLostError,
    RouteError,
    ServerFullError,
    StagefleetError,
)
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.swarm.records import ServerInfo
from runtime.swarm.view import View
from tests.support.records import info

CONFIG = StageConfig(model=Path("/m"), stage=0)


def server(peer_id: str, start: int = 0, end: int = 4, **fields: object) -> ServerInfo:
    return info(**{"peer_id": peer_id, "start": start, "end": end, "kv_bytes": 100} | fields)


def routes_over(*servers: ServerInfo, end: int = 4) -> Routes:
    async def look() -> tuple[ServerInfo, ...]:
        return servers

    return Routes(View(CONFIG, look), Span(start=0, end=end), dict)


class Changing:
    """Routes over a swarm that is another one at every look, and in the end stays as it is."""

    def __init__(self, *swarms: tuple[ServerInfo, ...]) -> None:
        self.swarms = list(swarms)
        self.looks = 0

    async def look(self) -> tuple[ServerInfo, ...]:
        self.looks += 1
        return self.swarms.pop(0) if len(self.swarms) > 1 else self.swarms[0]

    def routes(self) -> Routes:
        return Routes(View(CONFIG, self.look), Span(start=0, end=4), dict)


LOADS, SERVES = (server("a", state="joining"),), (server("a"),)


async def test_a_session_waits_for_blocks_that_are_about_to_be_served() -> None:
    assert (await Changing(LOADS, LOADS, SERVES).routes().await_route(60)).peer_ids == ("a",)


async def test_a_session_waits_for_blocks_that_were_served_a_moment_ago() -> None:
    swarm = Changing(SERVES, (), (), SERVES)
    routes = swarm.routes()
    await routes.choose()
    assert (await routes.await_route(60, now=True)).peer_ids == ("a",)
    assert swarm.looks == 4


async def test_a_session_that_has_ended_well_proves_that_blocks_were_served() -> None:
    swarm = Changing(SERVES, (), SERVES)
    routes = swarm.routes()
    chosen = await routes.choose()
    await asyncio.sleep(1)  # a session, in which whoever serves it does not renew its record
    routes.praise(chosen)
    assert (await routes.await_route(0.6, now=True)).peer_ids == ("a",)


async def test_no_session_waits_for_what_nobody_is_about_to_serve() -> None:
    swarm = Changing(())
    with pytest.raises(RouteError, match="nobody serves"):
        await swarm.routes().await_route(60)
    assert swarm.looks == 1


async def test_no_session_waits_for_ever() -> None:
    with pytest.raises(RouteError, match="nobody serves"):
        await Changing(LOADS).routes().await_route(0.6)


async def taken(routes: Routes, block_kv_bytes: int = 0) -> Route:
    """Return the route of one more session, which stays open."""
    chosen = await routes.choose(block_kv_bytes)
    routes.take(chosen)
    return chosen


async def test_open_sessions_spread_and_ended_ones_no_longer_count() -> None:
    routes = routes_over(server("a", throughput=20.0), server("b", throughput=10.0))
    found = [await taken(routes) for _ in range(6)]
    assert sorted(one.peer_ids[0] for one in found) == ["a"] * 4 + ["b"] * 2
    for one in found:
        routes.give_back(one)
    assert [(await taken(routes)).peer_ids for _ in range(3)] == [("a",), ("a",), ("b",)]


async def test_a_session_goes_where_the_others_leave_room() -> None:
    routes = routes_over(server("a", throughput=1000.0), server("b", throughput=1.0))
    first = await taken(routes, block_kv_bytes=20)
    assert first.peer_ids == ("a",)
    assert (await taken(routes, block_kv_bytes=20)).peer_ids == ("b",)
    assert (await taken(routes, block_kv_bytes=5)).peer_ids == ("a",)
    routes.give_back(first)
    assert (await taken(routes, block_kv_bytes=20)).peer_ids == ("a",)
    # Where nobody has room by this count, the servers themselves are asked.
    assert (await routes.choose(block_kv_bytes=200)).peer_ids in {("a",), ("b",)}


@pytest.mark.parametrize(
    ("error", "avoided"),
    [
        (PeerLostError("gone", peer_id="a"), {"a"}),
        (PeerLostError("gone", peer_id="c"), {"c"}),
        (NoAnswerError("nothing came"), {"a", "c"}),
        (PeerLostError("gone", peer_id="stranger"), set()),
        (PeerLostError("gone"), set()),
        (ServerFullError("full", peer_id="a"), set()),
        (MovedError("moved", peer_id="a"), set()),
    ],
)
async def test_who_is_lost_or_silent_is_avoided_until_it_serves_a_session_to_its_end(
    error: StagefleetError, avoided: set[str]
) -> None:
    routes = routes_over(
        server("a", 0, 2), server("b", 0, 2, throughput=1.0), server("c", 2), server("d", 2)
    )
    chosen = await routes.choose()
    assert chosen.peer_ids == ("a", "c")
    routes.blame(error, chosen)
    others = {"a": "b", "c": "d"}
    wanted = tuple(others[one] if one in avoided else one for one in chosen.peer_ids)
    assert (await routes.choose()).peer_ids == wanted
    routes.praise(chosen)
    assert (await routes.choose()).peer_ids == chosen.peer_ids


async def test_the_only_server_is_asked_again_though_it_failed() -> None:
    routes = routes_over(server("a"))
    chosen = await routes.choose()
    routes.blame(PeerLostError("gone", peer_id="a"), chosen)
    assert (await routes.choose(avoided={"a"})).peer_ids == ("a",)


async def test_stage_0_with_all_blocks_needs_no_directory() -> None:
    async def look() -> tuple[ServerInfo, ...]:
        raise PeerLostError("discovery is gone")

    routes = Routes(View(CONFIG, look), Span(start=4, end=4), dict)
    assert await routes.choose() == Route((), 0)


async def test_what_is_missing_is_said() -> None:
    with pytest.raises(RouteError, match=r"nobody serves \[2, 4\)"):
        await routes_over(server("a", 0, 2)).choose()


async def test_a_server_that_is_far_slower_than_it_says_loses_its_sessions() -> None:
    liar, honest = server("liar", throughput=1e6), server("honest", throughput=10.0)
    routes = routes_over(liar, honest)
    for _ in range(3):
        chosen = await taken(routes)
        assert chosen.peer_ids == ("liar",)
        routes.give_back(chosen)
    assert routes.believed(liar) == 1e6
    chosen = await taken(routes)
    routes.observe(chosen, 2.0)
    routes.give_back(chosen)
    # A step in two seconds makes half a step a second; three times as much is believed.
    assert routes.believed(liar) == pytest.approx(1.5, rel=0.01)
    assert routes.believed(honest) == 10.0
    assert (await taken(routes)).peer_ids == ("honest",)


async def test_sessions_that_share_a_server_do_not_make_it_look_slow() -> None:
    routes = routes_over(server("a", throughput=10.0))
    found = [await taken(routes) for _ in range(8)]
    for chosen in found:
        routes.observe(chosen, 0.8)
    assert routes.believed(server("a", throughput=10.0)) == 10.0
    assert routes.sessions == {"a": 8}


async def test_who_is_slower_by_a_little_keeps_its_share() -> None:
    routes = routes_over(server("a", throughput=20.0), server("b", throughput=10.0))
    for _ in range(6):
        chosen = await taken(routes)
        routes.observe(chosen, 0.12 * routes.sessions[chosen.peer_ids[0]])
    assert routes.sessions == {"a": 4, "b": 2}
