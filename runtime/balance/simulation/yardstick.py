"""A server that follows the rule that Petals publishes, in the same simulated swarm.

As published: it waits a moment, chooses, announces and loads; then it asks the rule again and
again. It neither reserves nor takes turns nor looks whether it is the last copy of a block.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from runtime.balance.member import Doing, Manner
from runtime.balance.published import published_should_move, published_start
from runtime.balance.seat import Seat, snapshot_of
from runtime.balance.snapshot import Snapshot

_MEAN_DELAY_SECONDS = 2.5


@dataclass
class Published:
    """One server under the published rule; the same members as `runtime.balance.member.Member`."""

    manner: Manner
    seat: Seat
    draw: np.random.Generator
    doing: Doing = "reserving"
    wake: float = 0
    load: tuple[int, int] | None = None
    _asked: tuple[Snapshot, bool] | None = None

    def record(self) -> Seat:
        """Return what to announce now."""
        return self.seat

    def join(self, now: float, others: Iterable[Seat]) -> None:  # noqa: ARG002 - a Member's
        """Choose blocks in a moment."""
        self.doing = "reserving"
        self.wake = now + self.draw.uniform(0, 2 * _MEAN_DELAY_SECONDS)

    def loaded(self, now: float, seconds: float, throughput: float) -> None:  # noqa: ARG002 - a Member's
        """Serve what has been loaded."""
        self.load = None
        self.seat = replace(self.seat, phase="online", throughput=throughput)
        self._rest(now)

    def drained(self) -> None:
        """Refuse: it does not wait for its sessions, so nobody has to say that they have ended.

        Raises:
            ValueError: always.
        """
        raise ValueError("there are no blocks to go to")

    def advance(self, now: float, others: Iterable[Seat]) -> None:
        """Choose, or ask whether to choose anew, if it is time."""
        if now < self.wake or self.doing not in {"reserving", "idle"}:
            return
        total = self.manner.total_blocks
        if self.doing == "reserving":
            throughput = snapshot_of(total, others).block_throughput
            start = published_start(throughput, self.seat.num_blocks)
            end = start + self.seat.num_blocks
            self.seat = replace(self.seat, phase="joining", start=start, end=end)
            self.doing, self.load, self.wake = "loading", (start, end), float("inf")
            return
        self._rest(now)
        snapshot = snapshot_of(total, (*others, self.seat))
        # The same question has the same answer, but for the order in which others are imagined.
        if self._asked is None or self._asked[0] != snapshot:
            seed = int(self.draw.integers(2**32))
            quality = self.manner.balance_quality
            move = published_should_move(snapshot, self.seat.peer_id, quality, seed)
            self._asked = (snapshot, move)
        if self._asked[1]:
            self.seat = replace(self.seat, phase="reserving")
            self.join(now, others)

    def _rest(self, now: float) -> None:
        self.doing = "idle"
        self.wake = now + self.draw.uniform(0, 2 * self.manner.mean_balance_check_period)
