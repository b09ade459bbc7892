"""The simulated swarm: events in the order of their times, and what is measured between them."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np

from runtime.balance.capacity import capacity
from runtime.balance.member import Doing, Manner, Member
from runtime.balance.seat import Seat
from runtime.balance.simulation.measure import Measure, Result
from runtime.balance.simulation.records import EXPIRY_SECONDS, Directory
from runtime.balance.simulation.workload import Life, Workload
from runtime.balance.simulation.yardstick import Published
from runtime.balance.snapshot import Placed, Snapshot


class Policy(Protocol):
    """What decides for one server: `Member`, or the yardstick."""

    seat: Seat
    doing: Doing
    wake: float
    load: tuple[int, int] | None

    def record(self) -> Seat:
        """Return what to announce now."""

    def join(self, now: float, others: tuple[Seat, ...]) -> None:
        """Ask for blocks."""

    def loaded(self, now: float, seconds: float, throughput: float) -> None:
        """Serve what has been loaded."""

    def drained(self) -> None:
        """Leave the blocks."""

    def advance(self, now: float, others: tuple[Seat, ...]) -> None:
        """Take the next step if it is due."""


@dataclass
class _Server:
    life: Life
    policy: Policy
    throughput: float
    serves: tuple[int, int] | None = None
    loads: tuple[int, int] | None = None
    load_number: int = 0
    told: Seat | None = None
    looked_at: float = -1
    wakes_at: float = -1

    def clock(self, now: float) -> float:
        return now + self.life.skew


class World:
    """One simulation run."""

    def __init__(
        self,
        workload: Workload,
        manner: Manner,
        seed: int,
        *,
        published: bool,
        watch: Callable[[float, Snapshot], None] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            workload: what happens from outside.
            manner: how servers take part.
            seed: of what servers do at random.
            published: they follow the rule that Petals publishes, not ours.
            watch: is told the time and who serves, whenever that changes.
        """
        self._workload = workload
        self._manner = manner
        self._seed = seed
        self._published = published
        self._watch = watch
        self._events: list[tuple[float, int, Callable[[float, str], None], str]] = []
        self._order = count()
        self._servers: dict[str, _Server] = {}
        self._lives = {life.peer_id: life for life in workload.lives}
        self._directory = Directory(workload.delay_seconds, workload.partitions)
        self._clients = _clients(workload)
        self._ghosts: dict[str, Placed] = {}
        # In two halves that do not hear of each other there may be two who move; under the
        # published rule nobody waits for anybody.
        alone = not workload.partitions and not published
        self.measure = Measure(workload.total_blocks, one_at_a_time=alone)

    def run(self) -> Result:
        """Return what was measured from the first event to the end of the workload."""
        for life in self._workload.lives:
            self._at(life.arrives, self._arrive, life.peer_id)
            self._at(life.dies, self._die, life.peer_id)
        for slowdown in self._workload.slowdowns:
            self._at(slowdown.at, self._slow(slowdown.factor), slowdown.peer_id)
        while self._events and self._events[0][0] < self._workload.seconds:
            now, _, act, peer = heapq.heappop(self._events)
            act(now, peer)
        return self.measure.result(self._workload.seconds)

    @property
    def serving(self) -> Snapshot:
        """Who really serves which blocks now."""
        return Snapshot.of(
            self._workload.total_blocks,
            (
                Placed(peer, *server.serves, server.throughput)
                for peer, server in self._servers.items()
                if server.serves is not None
            ),
        )

    @property
    def seats(self) -> tuple[Seat, ...]:
        """What every server that lives says of itself."""
        return tuple(server.policy.seat for server in self._servers.values())

    def _at(self, time: float, act: Callable[[float, str], None], peer: str) -> None:
        heapq.heappush(self._events, (time, next(self._order), act, peer))

    def _arrive(self, now: float, peer: str) -> None:
        life = self._lives[peer]
        where = life.coordinate if self._workload.places_are_known else None
        seat = Seat(
            peer, "reserving", 0, 0, life.num_blocks, life.throughput, ticket=0, coordinate=where
        )
        draw = np.random.default_rng((self._seed, len(self._servers), int(now * 1000)))
        kind = Published if self._published else Member
        server = _Server(life, kind(self._manner, seat, draw), life.throughput)
        self._servers[peer] = server
        server.policy.join(server.clock(now), self._seen(peer, now, life.skew))
        self._count(now)
        self._renew(now, peer)

    def _die(self, now: float, peer: str) -> None:
        server = self._servers.pop(peer, None)
        if server is None:
            return
        self.measure.dies(peer)
        if server.serves is not None:
            self._ghosts[peer] = Placed(peer, *server.serves, server.throughput)
        self._count(now)
        # Clocks that run behind keep its record for longer.
        gone = now + EXPIRY_SECONDS + max(abs(life.skew) for life in self._workload.lives)
        self._at(gone, self._forget, peer)

    def _forget(self, now: float, peer: str) -> None:
        self._ghosts.pop(peer, None)
        self._directory.forget(now, peer)

    def _slow(self, factor: float) -> Callable[[float, str], None]:
        def act(now: float, peer: str) -> None:
            server = self._servers.get(peer)
            if server is not None:
                server.throughput *= factor
                server.policy.seat = replace(server.policy.seat, throughput=server.throughput)
                self._count(now)
                self._tell(now, server)

        return act

    def _renew(self, now: float, peer: str) -> None:
        server = self._servers.get(peer)
        if server is None:
            return
        self._step(now, peer, server)
        self._directory.write(now, server.policy.record())
        self._at(now + self._manner.renew_seconds, self._renew, peer)

    def _wake(self, now: float, peer: str) -> None:
        server = self._servers.get(peer)
        if server is not None and server.wakes_at == now:
            self._step(now, peer, server)

    def _step(self, now: float, peer: str, server: _Server) -> None:
        policy = server.policy
        clock = server.clock(now)
        # Where nothing is new there is nothing to decide before its time.
        news_until = self._directory.changed_at + self._workload.delay_seconds
        if clock >= policy.wake or server.looked_at <= max(news_until, now - EXPIRY_SECONDS):
            before = policy.doing
            others = self._seen(peer, now, server.life.skew)
            policy.advance(clock, others)
            server.looked_at = now
            self._changed(now, peer, server, before)
        self._serve(now, server)
        self._load(now, peer, server)
        self._tell(now, server)
        if np.isfinite(policy.wake):
            server.wakes_at = max(now, policy.wake - server.life.skew)
            if server.wakes_at < now + self._manner.renew_seconds:
                self._at(server.wakes_at + 1e-6, self._wake, peer)
                server.wakes_at += 1e-6

    def _seen(self, peer: str, now: float, skew: float) -> tuple[Seat, ...]:
        return self._directory.seen(peer, now, skew) + self._clients

    def _changed(self, now: float, peer: str, server: _Server, before: Doing) -> None:
        policy = server.policy
        if policy.doing == before:
            return
        if policy.doing == "draining":
            # Sessions are handed over; what that takes is part of loading.
            # Nobody can know yet that those have died whose records live.
            known = self.serving
            for ghost in self._ghosts.values():
                known = known.with_server(ghost)
            self.measure.leaves(now, peer, known)
            policy.drained()
        if policy.doing == "loading" or before == "reserving":
            # What a newcomer loads ahead counts once, whatever it chooses in the end.
            self.measure.loads(policy.seat)

    def _serve(self, now: float, server: _Server) -> None:
        """Let a server serve what it says."""
        seat = server.policy.seat
        span = (seat.start, seat.end) if seat.phase in {"online", "draining"} else None
        if span != server.serves:
            server.serves = span
            self._count(now)

    def _load(self, now: float, peer: str, server: _Server) -> None:
        """Let a server begin to load what it wants; what it was loading before is forgotten."""
        if server.policy.load == server.loads:
            return
        server.loads = server.policy.load
        server.load_number += 1
        if server.loads is not None:
            at = now + self._workload.load_seconds
            self._at(at, self._loaded(server.load_number), peer)

    def _loaded(self, number: int) -> Callable[[float, str], None]:
        def act(now: float, peer: str) -> None:
            server = self._servers.get(peer)
            if server is None or server.load_number != number:
                return
            seconds = self._workload.load_seconds
            server.policy.loaded(server.clock(now), seconds, server.throughput)
            server.loads = server.policy.load
            self._serve(now, server)
            self._tell(now, server)
            self._at(now, self._step_again, peer)

        return act

    def _step_again(self, now: float, peer: str) -> None:
        server = self._servers.get(peer)
        if server is not None:
            self._step(now, peer, server)

    def _tell(self, now: float, server: _Server) -> None:
        if server.policy.seat != server.told:
            server.told = server.policy.seat
            self._directory.write(now, server.policy.record())
            self.measure.says(now, server.policy.seat)

    def _count(self, now: float) -> None:
        alive = self._servers.values()
        work = sum(server.throughput * server.life.num_blocks for server in alive)
        snapshot = self.serving
        self.measure.change(now, snapshot, capacity(snapshot), work)
        if self._watch is not None:
            self._watch(now, snapshot)


def _clients(workload: Workload) -> tuple[Seat, ...]:
    """Return the seat of the client side, if anybody knows where it is."""
    if workload.client is None or not workload.places_are_known:
        return ()
    where = workload.client
    seat = Seat("client", "online", 0, 0, 0, 0, ticket=0, fixed=True, coordinate=where, client=True)
    return (seat,)
