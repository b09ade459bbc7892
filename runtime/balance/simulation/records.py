"""The swarm's directory as simulated servers see it: late, stale, and through wrong clocks."""

import heapq
from dataclasses import dataclass

from runtime.balance.member import Manner
from runtime.balance.seat import Seat
from runtime.balance.simulation.workload import Partition
from runtime.spec.stage import PERIODS_TO_EXPIRY

EXPIRY_SECONDS = PERIODS_TO_EXPIRY * Manner.renew_seconds
"""A record that is not renewed is forgotten after this."""
_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class _Written:
    number: int
    expires: float
    seat: Seat


class Directory:
    """What each server has said, and when the others hear of it."""

    def __init__(self, delay_seconds: float, partitions: tuple[Partition, ...]) -> None:
        """Start empty.

        Args:
            delay_seconds: every record reaches each server within this time, each at another time.
            partitions: when the servers with an odd and with an even number hear nothing new of
                each other.
        """
        self._delay = delay_seconds
        self._partitions = partitions
        self._side: dict[str, int] = {}
        self._last: dict[str, Seat] = {}
        # For each side: what it has heard last of each server, and what is under way to it.
        self._heard: tuple[dict[str, _Written], ...] = ({}, {})
        self._coming: tuple[list[tuple[float, int, _Written]], ...] = ([], [])
        self._number = 0
        self.changed_at = 0.0

    def write(self, now: float, seat: Seat) -> None:
        """Announce or renew a server's record."""
        self._number += 1
        own = self._side.setdefault(seat.peer_id, len(self._side) % 2)
        if self._last.get(seat.peer_id) != seat:
            self.changed_at = now
        self._last[seat.peer_id] = seat
        written = _Written(self._number, now + EXPIRY_SECONDS, seat)
        for side in (0, 1):
            at = now + self._delay * _share(self._number, side)
            heard_at = at if side == own else self._across(now, at)
            heapq.heappush(self._coming[side], (heard_at, self._number, written))

    def forget(self, now: float, peer_id: str) -> None:
        """Drop a server whose last record has expired for everybody."""
        self._last.pop(peer_id, None)
        for heard in self._heard:
            heard.pop(peer_id, None)
        self.changed_at = now

    def seen(self, reader: str, now: float, skew: float) -> tuple[Seat, ...]:
        """Return the seats of the others, as a server with a wrong clock sees them now.

        Args:
            reader: who looks.
            now: in seconds; never before the time of an earlier call.
            skew: how far the reader's clock is off, in seconds.
        """
        side = self._side.get(reader, 0)
        heard, coming = self._heard[side], self._coming[side]
        while coming and coming[0][0] <= now:
            _, number, written = heapq.heappop(coming)
            peer = written.seat.peer_id
            if peer not in heard or heard[peer].number < number:
                heard[peer] = written
        clock = now + skew
        return tuple(
            [
                written.seat
                for peer, written in heard.items()
                if written.expires > clock and peer != reader
            ]
        )

    def _across(self, written_at: float, arrives: float) -> float:
        """Return when the other half hears of something."""
        for partition in sorted(self._partitions, key=lambda partition: partition.start):
            if partition.start <= written_at and arrives < partition.end:
                arrives = max(arrives, partition.end)
        return arrives


def _share(number: int, side: int) -> float:
    """Return a number in [0, 1) that looks random, and is the same for the same record."""
    mixed = ((number * 2 + side + 1) * _MIX) & (2**64 - 1)
    mixed ^= mixed >> 31
    mixed = (mixed * _MIX) & (2**64 - 1)
    return (mixed >> 11) / 2**53
