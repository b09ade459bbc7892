"""What a simulation measures, and the rules that no step may break."""

from collections import Counter
from dataclasses import dataclass, field

from runtime.balance.seat import Seat
from runtime.balance.snapshot import Snapshot


@dataclass(frozen=True)
class Result:
    """What came out of one run.

    Attributes:
        kept: mean over time of the capacity over the upper bound for the servers alive, 0 to 1.
        kept_minimum: the same for the smallest throughput over a block, as Petals counts.
        gap_share: the share of time in which some block had no server.
        moves: how many times a server left its blocks for others.
        loads: how many spans were loaded, those of arriving servers included.
        broken: the rules that were broken, each with its time.
    """

    kept: float
    kept_minimum: float
    gap_share: float
    moves: int
    loads: int
    broken: tuple[str, ...]


@dataclass
class Measure:
    """Sums over time, and the rules.

    Attributes:
        total_blocks: of the model.
        one_at_a_time: no two servers may move at once.
    """

    total_blocks: int
    one_at_a_time: bool = True
    _moving: set[str] = field(default_factory=set)
    _broken: list[str] = field(default_factory=list)
    _loads: Counter[str] = field(default_factory=Counter)
    _since: float = 0
    _watched: float = 0
    _now: tuple[float, float, bool] | None = None
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def change(self, now: float, serving: Snapshot, capacity: float, work: float) -> None:
        """Take note of who serves from now on.

        Args:
            now: in seconds.
            serving: the servers that answer.
            capacity: theirs.
            work: of all servers alive, those that load included.
        """
        self._add(now)
        bound = work / self.total_blocks
        if bound > 0:
            minimum = float(serving.block_throughput.min())
            self._now = (capacity / bound, minimum / bound, bool(serving.holes))
        else:
            self._now = None

    def leaves(self, now: float, peer: str, serving: Snapshot) -> None:
        """Take note that a server leaves its blocks by its own decision."""
        alone = set(serving.holes) ^ set(serving.without(peer).holes)
        if alone:
            self._broken.append(f"{now:.1f} s: {peer} left the last copy of {sorted(alone)}")

    def loads(self, seat: Seat) -> None:
        """Take note that a server loads blocks; after its first ones, that is a move."""
        self._loads[seat.peer_id] += 1

    def says(self, now: float, seat: Seat) -> None:
        """Take note of what a server announces."""
        if seat.claim is not None and (seat.target is not None or seat.phase == "joining"):
            self._moving.add(seat.peer_id)
        else:
            self._moving.discard(seat.peer_id)
        if len(self._moving) > 1 and self.one_at_a_time:
            self._broken.append(f"{now:.1f} s: {' and '.join(sorted(self._moving))} move at once")

    def dies(self, peer: str) -> None:
        """Take note that a server is gone."""
        self._moving.discard(peer)

    def result(self, end: float) -> Result:
        """Return what was measured."""
        self._add(end)
        watched = self._watched or 1
        kept, minimum, gaps = (total / watched for total in self._sums)
        loads = self._loads.total()
        return Result(kept, minimum, gaps, loads - len(self._loads), loads, tuple(self._broken))

    def _add(self, now: float) -> None:
        seconds = now - self._since
        self._since = now
        if self._now is not None and seconds > 0:
            self._watched += seconds
            for index, value in enumerate(self._now):
                self._sums[index] += seconds * value
