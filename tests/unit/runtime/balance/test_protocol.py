"""Random interleavings of the protocol: real members, a directory that is late, and no world.

Long runs: STAGEFLEET_INTERLEAVINGS=5000 pytest tests/unit/runtime/balance/test_protocol.py
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.balance.member import Manner, Member
from runtime.balance.placement import best_move
from runtime.balance.seat import Seat, serving, snapshot_of
from runtime.balance.simulation.records import EXPIRY_SECONDS

BLOCKS = 8
DELAY_SECONDS = 2.0
TICK_SECONDS = 0.5
MANNER = Manner(BLOCKS, mean_balance_check_period=10)
LOAD_TICKS = 6


class Server:
    """A member, its wrong clock, and what it has heard of each other one: (expiry, seat)."""

    def __init__(self, member: Member, skew: float) -> None:
        self.member = member
        self.skew = skew
        self.heard: dict[str, tuple[float, Seat]] = {}
        self.told: Seat | None = None
        self.told_at = 0.0
        self.renew_at = 0.0
        self.loaded_at: float | None = None


class Protocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.servers: dict[str, Server] = {}
        self.born = 0
        self.cut = False
        self.last_cut = -1e9
        self.mail: list[tuple[float, str, str, float, Seat]] = []
        self.draw = np.random.default_rng(0)
        # Records of the dead that somebody may still believe.
        self.dead: list[tuple[float, Seat]] = []
        self.fences: dict[str, int] = {}

    # Any server takes at most five of eight blocks, so that a swarm of two or three can have a gap.
    @rule(
        blocks=st.integers(2, 5),
        rate=st.floats(0.5, 2),
        skew=st.floats(-3, 3),
        keeps_both=st.booleans(),
    )
    @precondition(lambda self: len(self.servers) < 6)
    def join(self, blocks: int, rate: float, skew: float, keeps_both: bool) -> None:
        name = f"s{self.born:03d}"
        seat = Seat(name, "reserving", 0, 0, blocks, rate, ticket=0)
        manner = replace(MANNER, keeps_both=keeps_both)
        server = Server(Member(manner, seat, np.random.default_rng(self.born)), skew)
        self.born += 1
        for peer, other in self.servers.items():
            if other.told is None:
                continue
            # A newcomer asks the directory, which has what was said longer ago than the delay.
            expires = other.told_at + EXPIRY_SECONDS
            if other.told_at + DELAY_SECONDS <= self.now and not self.apart(peer, name):
                server.heard[peer] = (expires, other.told)
            else:
                self.send(peer, name, expires, other.told)
        for expires, seat in self.dead:
            server.heard[seat.peer_id] = (expires, seat)
        self.servers[name] = server
        server.member.join(self.now + skew, self.seen(server))
        self.tell(name, server)

    @rule(who=st.integers(0, 5))
    @precondition(lambda self: self.servers)
    def die(self, who: int) -> None:
        name = sorted(self.servers)[who % len(self.servers)]
        server = self.servers.pop(name)
        self.dead.append((self.now + EXPIRY_SECONDS + DELAY_SECONDS + 3, server.member.seat))

    @rule()
    def cut_or_join_the_network(self) -> None:
        self.cut = not self.cut
        self.last_cut = self.now

    @rule(ticks=st.integers(1, 80), seed=st.integers(0, 2**16))
    def pass_time(self, ticks: int, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        for _ in range(ticks):
            self.tick()

    def tick(self) -> None:
        self.now += TICK_SECONDS
        self.deliver()
        for name in self.draw.permutation(sorted(self.servers)):
            self.step(str(name), self.servers[str(name)])
        self.dead = [each for each in self.dead if each[0] > self.now]

    def deliver(self) -> None:
        waiting = []
        for item in self.mail:
            at, sender, reader, expires, seat = item
            if self.apart(sender, reader) or at > self.now:
                waiting.append(item)
            elif reader in self.servers:
                before = self.servers[reader].heard.get(sender)
                if before is None or before[1].beat < seat.beat:
                    self.servers[reader].heard[sender] = (expires, seat)
        self.mail = waiting

    def apart(self, one: str, other: str) -> bool:
        return self.cut and int(one[1:]) % 2 != int(other[1:]) % 2

    def seen(self, server: Server) -> list[Seat]:
        clock = self.now + server.skew
        return [seat for expires, seat in server.heard.values() if expires > clock]

    def step(self, name: str, server: Server) -> None:
        member = server.member
        if server.loaded_at is not None and server.loaded_at <= self.now:
            server.loaded_at = None
            member.loaded(self.now + server.skew, 3, member.seat.throughput)
        before = member.seat
        member.advance(self.now + server.skew, self.seen(server))
        after = member.seat
        if member.doing == "draining":
            self.leaves(name, range(after.start, after.end))
            member.drained()
        elif before.phase == after.phase == "online":
            # From the old blocks to those that were loaded beside them.
            stays = range(after.start, after.end)
            self.leaves(name, [b for b in range(before.start, before.end) if b not in stays])
        if member.doing == "loading" and server.loaded_at is None:
            server.loaded_at = self.now + LOAD_TICKS * TICK_SECONDS
        if member.seat != server.told or self.now >= server.renew_at:
            self.tell(name, server)

    def tell(self, name: str, server: Server) -> None:
        server.renew_at = self.now + MANNER.renew_seconds
        server.told_at = self.now
        server.told = seat = server.member.record()
        assert seat.fence >= self.fences.get(name, 0), "a fence went back"
        self.fences[name] = seat.fence
        for reader in self.servers:
            if reader != name:
                self.send(name, reader, self.now + EXPIRY_SECONDS, seat)

    def send(self, sender: str, reader: str, expires: float, seat: Seat) -> None:
        at = self.now + float(self.draw.uniform(0, DELAY_SECONDS))
        self.mail.append((at, sender, reader, expires, seat))

    def leaves(self, name: str, blocks: Sequence[int]) -> None:
        others = [each.member.seat for peer, each in self.servers.items() if peer != name]
        # Nobody can know yet that those have died whose records live.
        others += [dead for _, dead in self.dead]
        copies = serving(BLOCKS, others).replicas
        assert (copies[list(blocks)] > 0).all(), f"{name} leaves the last copy"

    @invariant()
    def one_server_moves_at_a_time(self) -> None:
        calm = self.now - self.last_cut > 2 * EXPIRY_SECONDS and not self.cut
        moving = [
            name
            for name, server in self.servers.items()
            if server.member.seat.claim is not None
            and (server.member.seat.target is not None or server.member.seat.phase == "joining")
        ]
        assert not calm or len(moving) <= 1, moving

    def teardown(self) -> None:
        self.cut = False
        # Longer than records live, cool-downs last, and several moves take.
        for _ in range(int(400 / TICK_SECONDS)):
            self.tick()
        seats = [server.member.seat for server in self.servers.values()]
        # What could still be closed without leaving another block alone has been.
        move = best_move(snapshot_of(BLOCKS, seats))
        assert move is None or move.closes == 0, (move, seats)
        assert all(seat.phase == "online" or seat.claim is not None for seat in seats)


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=int(os.environ.get("STAGEFLEET_INTERLEAVINGS", "8")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
