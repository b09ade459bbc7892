"""The loop around `Member`: when the swarm cannot be asked, and what records become."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from runtime.balance.coordinate import Coordinate
from runtime.balance.seat import Seat, snapshot_of
from runtime.errors import ModelError, PeerLostError
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.stage.balancer import Balancer, seat_of, seating_of, wanting
from runtime.swarm.records import Seating, ServerInfo
from tests.support.records import info

CONFIG = StageConfig(
    model=Path("/m"),
    stage=1,
    use_load_balancing=True,
    num_blocks=4,
    announce_period_seconds=0.2,
    mean_balance_check_period=0.2,
)


class Alone:
    """A server in a swarm of its own, whose discovery can be lost."""

    def __init__(self, *, loses: bool = False) -> None:
        self.asked, self.lost, self.loses = 0, False, loses
        self.both = False
        self.others: tuple[ServerInfo, ...] = ()
        self.done: list[str] = []
        self.fails: Exception | None = None
        self.meanwhile: tuple[ServerInfo, ...] | None = None
        self.said: list[Seat] = []
        self.balancer = Balancer(CONFIG, 8, wanting("me", 4, 1.0), self)
        self.loaded: list[Span] = []
        self.loads = asyncio.Event()
        self.loads.set()
        self.speed = 2.0
        self.where = Coordinate(0, 0)

    async def load(self, span: Span) -> float:
        """Load as soon as it may, and perhaps lose discovery meanwhile."""
        self.loaded.append(span)
        self.lost = self.loses
        try:
            await self.loads.wait()
        except asyncio.CancelledError:
            self.done.append(f"gave up {span.start}")
            raise
        return self.speed

    async def load_beside(self, span: Span) -> float:
        """Load at once, or fail."""
        self.loaded.append(span)
        if self.fails is not None:
            raise self.fails
        if self.meanwhile is not None:
            self.others = self.meanwhile
        return 3.0

    def switch(self) -> None:
        """Serve the other blocks."""
        self.speed = 3.0
        self.done.append("switch")

    def drop(self) -> None:
        """Forget the other blocks."""
        self.done.append("drop")

    def keeps_both(self) -> bool:
        """Return whether there is memory."""
        return self.both

    def throughput(self) -> float:
        """Return how fast it is now."""
        return self.speed

    def coordinate(self) -> Coordinate:
        """Return where it is now."""
        return self.where

    async def announce(self) -> None:
        """Tell nobody but the test."""
        self.said.append(self.balancer.seat)

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return the others, who have something to say each time, or fail."""
        self.asked += 1
        if self.lost:
            raise PeerLostError("discovery does not answer")
        seating = Seating(num_blocks=4, beat=self.asked)
        return tuple(msgspec.structs.replace(other, seating=seating) for other in self.others)

    async def news(self) -> None:
        """Wait for something that does not happen."""
        await asyncio.Event().wait()

    def busy(self) -> bool:
        """Return that no session is there."""
        return False


async def test_lost_discovery_is_asked_again_in_its_time_and_nothing_is_forgotten() -> None:
    alone = Alone(loses=True)
    balancer = alone.balancer
    running = asyncio.create_task(balancer.run())
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.01)  # until it has loaded; the timeout ends it
            if alone.loaded:
                break
    before = alone.asked
    await asyncio.sleep(1)  # for so long nobody answers
    # It asks five times a second, and does not wait for its turn by asking.
    assert 0 < alone.asked - before < 20
    alone.lost = False
    async with asyncio.timeout(30):
        await balancer.online()
    assert (balancer.seat.phase, balancer.seat.throughput) == ("online", 2.0)
    alone.speed = 0.4
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.01)  # until it says so; the timeout ends it
            if balancer.seat.throughput == alone.speed:
                break
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert alone.loaded == [Span(start=0, end=4)]


def other(name: str, start: int, end: int) -> ServerInfo:
    return info(peer_id=name, start=start, end=end, total_blocks=8, throughput=2.0)


# Four servers, three of them with the same blocks: of these "me" is the one to move.
CROWD = (other("a", 0, 4), other("b", 0, 4), other("c", 4, 8))


async def test_a_newcomer_loads_ahead_and_gives_up_what_it_does_not_get() -> None:
    host = Alone()
    host.loads.clear()
    running = asyncio.create_task(host.balancer.run())
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.01)  # until it loads; the timeout ends it
            if host.loaded:
                break
        assert host.balancer.seat.phase == "reserving"
        host.others = CROWD[:1]
        while True:
            await asyncio.sleep(0.01)  # until it has seen the other; the timeout ends it
            if len(host.loaded) == 2:
                break
        host.loads.set()
        await host.balancer.online()
    running.cancel()
    await asyncio.wait([running])
    assert host.loaded == [Span(start=0, end=4), Span(start=4, end=8)]
    assert host.done == ["gave up 0"]
    assert all(said.start == 4 for said in host.said if said.phase in {"joining", "online"})


class Late(Alone):
    """A server whose words take long to reach the directory, which once does not take them."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.balancer = Balancer(config, 8, wanting("me", 4, 1.0), self)
        self.seconds = 2 * config.announce_period_seconds
        self.times: list[tuple[str, float]] = []
        self.refuses = True

    async def announce(self) -> None:
        """Tell nobody but the test, after more than the others would be waited for."""
        await asyncio.sleep(self.seconds)
        if self.refuses:
            self.refuses = False
            raise PeerLostError("nobody takes this record")
        await super().announce()
        self.times.append((self.said[-1].phase, time.monotonic()))

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Note when the directory was asked."""
        self.times.append(("asked", time.monotonic()))
        return await super().servers()


async def test_nothing_is_decided_before_others_had_their_time_to_hear_the_last_word() -> None:
    config = CONFIG.model_copy(update={"announce_period_seconds": 1.0})
    host = Late(config)
    running = asyncio.create_task(host.balancer.run())
    async with asyncio.timeout(30):
        await host.balancer.online()
    running.cancel()
    await asyncio.wait([running])
    words = [said.start == said.end for said in host.said if said.phase == "reserving"]
    assert words[0]
    told = [at for what, at in host.times if what == "reserving"]
    online = next(at for what, at in host.times if what == "online")
    settle = config.announce_period_seconds / 2
    # It asked, waited, looked, chose, waited and looked: the look that settles it began after the
    # second wait, which began when its choice had been told.
    choice = told[words.index(False)]
    looks = [at for what, at in host.times if what == "asked" and at < online]
    assert any(at >= choice + settle for at in looks)


@contextlib.asynccontextmanager
async def in_a_crowd(host: Alone) -> AsyncIterator[None]:
    """Let a server with memory for both spans serve, and then others come."""
    host.both = True
    running = asyncio.create_task(host.balancer.run())
    try:
        async with asyncio.timeout(30):
            await host.balancer.online()
            host.others = CROWD
            yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_with_memory_for_both_spans_it_never_stops_serving() -> None:
    host = Alone()
    async with in_a_crowd(host):
        while True:
            await asyncio.sleep(0.01)  # until it has moved; the timeout ends it
            if host.done:
                break
    assert host.done == ["switch"]
    seat = host.balancer.seat
    assert (seat.start, seat.end, seat.throughput) == (4, 8, 3.0)
    online = [said for said in host.said if said.phase == "online"]
    assert host.said[-len(online) :] == online
    assert any(said.target == (4, 8) and said.start == 0 for said in online)


async def test_what_was_loaded_beside_is_dropped_when_the_move_is_given_up() -> None:
    host = Alone()
    # Nobody else serves the old blocks any more.
    host.meanwhile = (CROWD[2],)
    async with in_a_crowd(host):
        while True:
            await asyncio.sleep(0.01)  # until it has decided; the timeout ends it
            if host.done:
                break
    assert host.done == ["drop"]
    seat = host.balancer.seat
    assert (seat.phase, seat.start, seat.target, seat.throughput) == ("online", 0, None, 2.0)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ModelError("damaged")])
async def test_blocks_that_cannot_be_loaded_beside_end_the_move_and_not_the_server(
    error: Exception,
) -> None:
    host = Alone()
    host.fails = error
    async with in_a_crowd(host):
        while True:
            await asyncio.sleep(0.01)  # until it has tried again; the timeout ends it
            if host.loaded.count(Span(start=4, end=8)) == 2:
                break
    assert (host.done, host.balancer.seat.phase, host.balancer.seat.start) == ([], "online", 0)


@pytest.mark.parametrize("state", ["leaving", "gone"])
def test_a_server_that_ends_is_counted_by_nobody(state: str) -> None:
    assert seat_of(info(state=state)) is None


def test_a_seat_is_what_a_record_says() -> None:
    seating = Seating(num_blocks=4, ticket=3, target=(1, 5), claim=7, fence=9, beat=2)
    seat = seat_of(info(state="draining", seating=seating))
    assert seat is not None
    assert (seat.phase, seat.target, seat.claim, seat.fixed) == ("draining", (1, 5), 7, False)
    assert seating_of(seat) == seating


def test_fixed_splits_are_told_from_balanced_servers() -> None:
    fixed = seat_of(info())
    assert fixed is not None
    assert fixed.fixed
    assert fixed.num_blocks == fixed.end - fixed.start
    assert seat_of(info(start=0, end=0)) is None


def test_a_stage_0_is_where_sessions_come_from_whether_it_has_blocks_or_not() -> None:
    where = Coordinate(0.1, 0.2)
    for end in (0, 4):
        client = seat_of(info(stage=0, start=0, end=end, coordinate=where))
        assert client is not None
        assert (client.client, client.coordinate, client.num_blocks) == (True, where, end)
        assert len(snapshot_of(8, [client]).servers) == (1 if end else 0)
    balanced = seat_of(info(seating=Seating(num_blocks=4), coordinate=where))
    assert balanced is not None
    assert (balanced.client, balanced.coordinate) == (False, where)


async def test_a_newcomer_says_where_it_is_and_keeps_to_it_while_it_chooses() -> None:
    host = Alone()
    host.where = Coordinate(0.1, 0)
    running = asyncio.create_task(host.balancer.run())
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.01)  # until it says so; the timeout ends it
            if host.balancer.seat.end:
                host.where = Coordinate(0.2, 0)
            if host.balancer.seat.coordinate == Coordinate(0.2, 0):
                break
    assert host.balancer.seat.phase != "reserving"
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    reserving = [seat for seat in host.said if seat.phase == "reserving"]
    assert {seat.coordinate for seat in reserving} == {Coordinate(0.1, 0)}
