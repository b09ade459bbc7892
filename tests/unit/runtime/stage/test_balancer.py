"""The loop around `Member`: when the swarm cannot be asked, and what records become."""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from runtime.errors import PeerLostError
from runtime.spec.base import Span
from runtime.spec.stage import StageConfig
from runtime.stage.balancer import Balancer, seat_of, seating_of
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

    def __init__(self) -> None:
        self.asked, self.lost = 0, False
        self.loaded: list[Span] = []

    async def load(self, span: Span) -> float:
        """Load at once, and lose discovery meanwhile."""
        self.loaded.append(span)
        self.lost = True
        return 2.0

    async def announce(self) -> None:
        """Tell nobody."""

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return nobody, or fail."""
        self.asked += 1
        if self.lost:
            raise PeerLostError("discovery does not answer")
        return ()

    def busy(self) -> bool:
        """Return that no session is there."""
        return False


async def test_lost_discovery_is_asked_again_in_its_time_and_nothing_is_forgotten() -> None:
    alone = Alone()
    balancer = Balancer(CONFIG, 8, "me", 1.0, alone)
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
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert alone.loaded == [Span(start=0, end=4)]
    assert (balancer.seat.phase, balancer.seat.throughput) == ("online", 2.0)


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
    assert seat_of(msgspec.structs.replace(info(), start=0, end=0)) is None
