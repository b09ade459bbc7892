"""A balanced server's part in the swarm: what it does next, given what it sees.

No clocks, no network and no waiting in here: `advance` is called when there is news, or when the
time `wake` has come; what its owner has to do then, `doing`, `load` and `seat` say. The server's
loop and the simulation call the same code.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from runtime.balance.coordinate import Coordinate
from runtime.balance.decision import Decision, should_choose_other_blocks
from runtime.balance.lease import claimed, highest_fence, holds, may_leave
from runtime.balance.placement import Choice, helps
from runtime.balance.reservation import Line, is_behind, line_before, ticket
from runtime.balance.seat import Moves, Seat, has_gap, snapshot_of
from runtime.balance.snapshot import Snapshot
from runtime.spec.stage import StageConfig

Doing = Literal["reserving", "loading", "idle", "claiming", "leaving", "draining"]
_COOL_DOWN_PERIODS = 5
_MOST_CHANGES = 16
"""Whoever makes others change their minds without end does not hold them up for longer."""
_NEWS = 100
"""So many decisions are kept for an owner who takes none."""


def _default(name: str) -> float:
    return float(StageConfig.model_fields[name].default)


@dataclass(frozen=True)
class Manner:
    """How a server takes part.

    Attributes:
        total_blocks: of the model.
        replica_floor: so many copies every block should have; the same for all servers.
        balance_quality: below this share of what the swarm could reach it moves at once.
        mean_balance_check_period: mean seconds between two looks at the balance.
        renew_seconds: a server says something at least as often.
        keeps_both: there is memory to load a new span while the old one serves.
    """

    total_blocks: int
    replica_floor: int = int(_default("replica_floor"))
    balance_quality: float = _default("balance_quality")
    mean_balance_check_period: float = _default("mean_balance_check_period")
    renew_seconds: float = _default("announce_period_seconds")
    keeps_both: bool = False

    @property
    def settle_seconds(self) -> float:
        """How long a server waits for the others: in half of it what it says has reached them."""
        return self.renew_seconds / 2


@dataclass
class Member:
    """One server's state in the protocol.

    Attributes:
        seat: what it tells the others; `record` numbers what is said.
        doing: which step it is at.
        wake: when to call `advance` next at the latest, by the owner's clock.
        load: the blocks to load now, or None. While it is "reserving" they may still become others:
            it loads what it would get if nobody else came, because mostly nobody does.
        load_seconds: how long its last load took.
        news: decisions since the owner last took them.
    """

    manner: Manner
    seat: Seat
    draw: np.random.Generator
    doing: Doing = "reserving"
    wake: float = 0
    load: tuple[int, int] | None = None
    load_seconds: float = 30
    news: deque[Decision | Choice] = field(default_factory=lambda: deque(maxlen=_NEWS))
    _beats: dict[str, int] = field(default_factory=dict)
    _gap: bool = False
    _not_before: float = 0
    _leave_at: float = 0
    _changes: int = 0
    _waiting: tuple[tuple[int, int], float] | None = None

    def record(self) -> Seat:
        """Return what to announce now, as something new."""
        self.seat = replace(self.seat, beat=self.seat.beat + 1)
        return self.seat

    def join(self, now: float, others: Iterable[Seat]) -> None:
        """Ask for blocks.

        Args:
            now: the owner's clock.
            others: the seats of all others, as seen now.
        """
        others = tuple(others)
        self.seat = replace(self.seat, phase="reserving", start=0, end=0, ticket=ticket(others))
        self._changes = 0
        self._load_ahead(*self._line(others).chosen(self.seat))
        self._settle(now, "reserving")

    def loaded(self, now: float, seconds: float, throughput: float) -> None:
        """Serve what has been loaded, at the throughput that was measured.

        Where it was loaded beside the old blocks, these are served until others can be relied on.

        Args:
            now: the owner's clock.
            seconds: how long it took.
            throughput: decode steps per second through all its blocks.

        Raises:
            ValueError: nothing was to be loaded.
        """
        if self.load is None:
            raise ValueError("nothing was to be loaded")
        span, self.load, self.load_seconds = self.load, None, seconds
        if self.doing == "reserving":
            self._waiting = span, throughput
        elif self.seat.target is not None:
            # The old blocks are still served beside them.
            self._waiting = span, throughput
            self.doing = "leaving"
            self.wake = max(now, self._leave_at)
        else:
            self._serve(now, span, throughput, moved=self.seat.claim is not None)

    def _serve(self, now: float, span: tuple[int, int], throughput: float, *, moved: bool) -> None:
        """Say that these blocks are served, and no others."""
        if moved:
            self._not_before = now + _COOL_DOWN_PERIODS * self.manner.mean_balance_check_period
        self.seat = replace(
            self.seat,
            phase="online",
            start=span[0],
            end=span[1],
            throughput=throughput,
            target=None,
            claim=None,
            moves=self._moves(now),
        )
        self._waiting = None
        self._rest(now)

    def measured(self, throughput: float) -> None:
        """Say how fast it is now; whatever is being done goes on.

        Args:
            throughput: decode steps per second through all its blocks.
        """
        self.seat = replace(self.seat, throughput=throughput)

    def told_late(self, seconds: float) -> None:
        """Give others as much more time to hear what it says, because saying it has taken so long.

        Args:
            seconds: from the decision until the swarm's directory had it.
        """
        if self.doing in {"reserving", "claiming", "leaving"}:
            self.wake += seconds
        self._leave_at += seconds

    def located(self, coordinate: Coordinate | None) -> None:
        """Say where it is in the network.

        From the first choice of a newcomer to its last one that stays what it was, because others
        foresee the choice by it.
        """
        if self.doing != "reserving" or self.seat.start == self.seat.end:
            self.seat = replace(self.seat, coordinate=coordinate)

    def drained(self) -> None:
        """Leave the blocks: nobody uses them any more.

        Raises:
            ValueError: the server does not move.
        """
        if self.seat.target is None:
            raise ValueError("there are no blocks to go to")
        start, end = self.seat.target
        self.seat = replace(self.seat, phase="joining", start=start, end=end, target=None)
        self._load(start, end)

    def stay(self, now: float, reason: str = "its sessions did not end in time") -> None:
        """Give up a move, for example because sessions do not end.

        Args:
            now: the owner's clock.
            reason: why, in words.
        """
        self.seat = replace(self.seat, phase="online", target=None, claim=None, reason=reason)
        self._rest(now)

    def advance(self, now: float, others: Iterable[Seat]) -> None:
        """Take the next step if it is due.

        Args:
            now: the owner's clock.
            others: the seats of all others, as seen now.
        """
        others = tuple(others)
        fence = highest_fence((self.seat, *others))
        if fence > self.seat.fence:
            self.seat = replace(self.seat, fence=fence)
        if self.doing in {"idle", "claiming"}:
            self.seat = replace(self.seat, beside=self.manner.keeps_both)
        if self.seat.in_line and not is_behind(self.seat, others):
            self.seat = replace(self.seat, in_line=False)
        step = {
            "reserving": self._choose,
            "idle": self._look,
            "claiming": self._move,
            "leaving": self._leave,
            "draining": self._leave,
        }.get(self.doing)
        # A gap that has just opened is a reason to look at once.
        if self.doing == "idle" and now < self.wake and self._new_gap(others):
            self.wake = now
        if step is not None and now >= self.wake:
            step(now, others)

    def _choose(self, now: float, others: tuple[Seat, ...]) -> None:
        line = self._line(others)
        start, end = line.chosen(self.seat)
        self._load_ahead(start, end)
        if (self.seat.start, self.seat.end) != (start, end) and self._changes < _MOST_CHANGES:
            self._changes += 1
            self.seat = replace(self.seat, start=start, end=end)
            self._settle(now, "reserving")
            return
        choice = line.choice(self.seat)
        self.news.append(choice)
        self.seat = replace(
            self.seat,
            phase="joining",
            start=start,
            end=end,
            in_line=is_behind(self.seat, others),
            reason=choice.reason,
        )
        if self._waiting is None:
            self._load(start, end)
        else:
            self._serve(now, *self._waiting, moved=False)

    def _look(self, now: float, others: tuple[Seat, ...]) -> None:
        if any(seat.phase == "reserving" for seat in others):
            # Who comes may mend what is wrong, and costs nothing.
            self._settle(now, "idle")
            return
        self._rest(now)
        self.seat = replace(self.seat, moves=self._moves(now))
        decision = self._decision(others)
        if decision.move is None:
            self.news.append(decision)
            self.seat = replace(self.seat, reason=decision.reason)
            return
        claim = claimed(self.seat, others)
        if claim is None:
            # Somebody else moves, and afterwards the swarm is another one.
            return
        self.news.append(decision)
        self.seat = replace(self.seat, claim=claim, fence=claim, reason=decision.reason)
        self._settle(now, "claiming")

    def _move(self, now: float, others: tuple[Seat, ...]) -> None:
        decision = self._decision(others)
        if decision.move is None or not holds(self.seat, others):
            # The gain has vanished meanwhile, or somebody was faster.
            self.stay(now, "the gain has vanished meanwhile, or another server was faster")
            return
        target = (decision.move.start, decision.move.end)
        self._beats = {seat.peer_id: seat.beat for seat in others}
        # Everybody has time to say something after having heard it.
        self._leave_at = now + self.manner.settle_seconds + self.manner.renew_seconds
        if self.manner.keeps_both:
            self.seat = replace(self.seat, target=target, reason=decision.reason)
            self._load(*target)
            return
        self.seat = replace(self.seat, phase="draining", target=target, reason=decision.reason)
        self.doing = "leaving"
        self.wake = self._leave_at

    def _leave(self, now: float, others: tuple[Seat, ...]) -> None:
        if not self._still_helps(others):
            self.stay(now, "others do not serve what it would leave, or the gain has vanished")
        elif self.seat.phase == "online":
            self._switch(now)
        else:
            # Its sessions end; meanwhile the swarm may change once more.
            self.doing = "draining"
            self.wake = now + self.manner.mean_balance_check_period

    def _switch(self, now: float) -> None:
        """Serve the new blocks instead of the old ones, from one moment to the next."""
        if self._waiting is None:
            raise ValueError("there are no blocks to go to")
        self._serve(now, *self._waiting, moved=True)

    def _still_helps(self, others: tuple[Seat, ...]) -> bool:
        """Return whether others still serve what it leaves, and nobody else has filled its place.

        Whoever has come or gone since may have made the move needless: then it is given up.
        """
        total = self.manner.total_blocks
        if self.seat.target is None or not may_leave(total, self.seat, others, self._beats):
            return False
        stays = self._snapshot((*others, replace(self.seat, target=None)))
        return helps(stays, self.seat.peer_id, self.seat.target[0])

    def _decision(self, others: tuple[Seat, ...]) -> Decision:
        manner = self.manner
        return should_choose_other_blocks(
            self._snapshot((*others, self.seat)),
            self.seat.peer_id,
            manner.balance_quality,
            0 if manner.keeps_both else self.load_seconds,
        )

    def _snapshot(self, seats: Iterable[Seat]) -> Snapshot:
        return snapshot_of(self.manner.total_blocks, seats, self.manner.replica_floor)

    def _moves(self, now: float) -> Moves:
        if self.manner.balance_quality <= 0:
            return "never"
        return "in need" if now < self._not_before else "freely"

    def _new_gap(self, others: tuple[Seat, ...]) -> bool:
        before = self._gap
        self._gap = has_gap(self.manner.total_blocks, (*others, self.seat))
        return self._gap and not before

    def _line(self, others: tuple[Seat, ...]) -> Line:
        """Return all that it chooses its first blocks behind."""
        return line_before(self.manner.total_blocks, self.seat, others, self.manner.replica_floor)

    def _load_ahead(self, start: int, end: int) -> None:
        """Load what it would get as things are, unless it does so already."""
        if self._waiting is not None and self._waiting[0] != (start, end):
            self._waiting = None
        if self._waiting is None:
            self.load = start, end

    def _load(self, start: int, end: int) -> None:
        self.doing = "loading"
        self.load = (start, end)
        self.wake = float("inf")

    def _settle(self, now: float, doing: Doing) -> None:
        self.doing = doing
        self.wake = now + self.manner.settle_seconds

    def _rest(self, now: float) -> None:
        self.doing = "idle"
        self.wake = now + self.draw.uniform(0, 2 * self.manner.mean_balance_check_period)
