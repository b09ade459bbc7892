"""The swarm's directory as simulated servers see it: late, stale, and through wrong clocks."""

from dataclasses import dataclass

from runtime.balance.member import Manner
from runtime.balance.seat import Seat
from runtime.balance.simulation.workload import Partition
from runtime.spec.stage import PERIODS_TO_EXPIRY

EXPIRY_SECONDS = PERIODS_TO_EXPIRY * Manner.renew_seconds
"""A record that is not renewed is forgotten after this."""
_KEPT = 8
_MIX = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class _Written:
    number: int
    at: float
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
        self._records: dict[str, list[_Written]] = {}
        self._side: dict[str, int] = {}
        self._number = 0
        self.changed_at = 0.0

    def write(self, now: float, seat: Seat) -> None:
        """Announce or renew a server's record."""
        self._number += 1
        records = self._records.setdefault(seat.peer_id, [])
        self._side.setdefault(seat.peer_id, len(self._side) % 2)
        if not records or records[-1].seat != seat:
            self.changed_at = now
        records.append(_Written(self._number, now, now + EXPIRY_SECONDS, seat))
        del records[:-_KEPT]

    def forget(self, now: float, peer_id: str) -> None:
        """Drop a server whose last record has expired for everybody."""
        self._records.pop(peer_id, None)
        self.changed_at = now

    def seen(self, reader: str, now: float, skew: float) -> tuple[Seat, ...]:
        """Return the seats of the others, as a server with a wrong clock sees them now."""
        found = []
        side = self._side.get(reader, 0)
        for peer, records in self._records.items():
            if peer == reader:
                continue
            apart = side != self._side[peer]
            for written in reversed(records):
                if self._heard(written, side, now, apart=apart):
                    if written.expires > now + skew:
                        found.append(written.seat)
                    break
        return tuple(found)

    def _heard(self, written: _Written, side: int, now: float, *, apart: bool) -> bool:
        if written.at + self._delay * _share(written.number, side) > now:
            return False
        return not apart or not any(
            partition.start <= now < partition.end and written.at >= partition.start
            for partition in self._partitions
        )


def _share(number: int, side: int) -> float:
    """Return a number in [0, 1) that looks random, and is the same for the same record."""
    mixed = ((number * 2 + side + 1) * _MIX) & (2**64 - 1)
    mixed ^= mixed >> 31
    mixed = (mixed * _MIX) & (2**64 - 1)
    return (mixed >> 11) / 2**53
