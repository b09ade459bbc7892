"""The best placement known of the servers that are there: what a swarm is measured against.

Nobody has to follow it: it says what could be had if every server might move at once and for
nothing. Finding the very best is a hard combinatorial problem; this one begins with servers that
join one after the other, in several orders, and lets one after the other move while that adds
capacity. Beside it there is an upper bound that no placement exceeds (see `capacity`).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtime.balance.capacity import capacity
from runtime.balance.coordinate import Coordinate
from runtime.balance.path import HOP_SECONDS, Costs, cheapest, points, way
from runtime.balance.placement import best_start
from runtime.balance.snapshot import Placed, Snapshot, strength
from runtime.balance.worth import WORTH, Candidates, most_placements

_MOST_MOVES = 64
_BETTER = 1 + 1e-9
_ORDERS: tuple[Callable[[Placed], tuple[float, str]], ...] = (
    lambda server: (0, server.peer_id),
    lambda server: (-server.num_blocks, server.peer_id),
    lambda server: (-server.num_blocks * server.throughput, server.peer_id),
    lambda server: (-server.throughput, server.peer_id),
)
_MOST_REFINED = 64
"""With more servers the best beginning is not improved: no single one of them matters."""


@dataclass(frozen=True)
class FewerStages:
    """What one sequence would gain if fewer servers held more blocks each.

    Attributes:
        hops: how many servers the fastest route passes through now.
        seconds: what it takes for one decode step.
        fewer_hops: through how many it would pass.
        fewer_seconds: what it would take then.
        num_blocks: how many blocks each of these would have to hold.
    """

    hops: int
    seconds: float
    fewer_hops: int
    fewer_seconds: float
    num_blocks: int

    @property
    def reason(self) -> str:
        """The same in words."""
        return (
            f"fewer stages would be faster: a route of {self.fewer_hops} with {self.num_blocks} "
            f"blocks each answers one sequence in {1000 * self.fewer_seconds:.1f} ms a token, "
            f"one of {self.hops} as they are in {1000 * self.seconds:.1f} ms"
        )


def best_known(snapshot: Snapshot) -> Snapshot:
    """Return these servers where they would serve most, as far as is known.

    No placement that is returned is worse than the one given. Spans keep their lengths, servers
    with fixed splits stay, and who loads counts as if it served. Copies that are missing to the
    replica floor count before what is served.
    """
    # The same placement from two orders is improved once.
    begins = dict.fromkeys((snapshot, *(_one_by_one(snapshot, order) for order in _ORDERS)))
    if len(snapshot.servers) > _MOST_REFINED:
        return max(begins, key=_value)
    return max(map(_refined, begins), key=_value)


def _value(snapshot: Snapshot) -> tuple[int, float]:
    return -snapshot.missing_copies, capacity(snapshot)


def fewer_stages(snapshot: Snapshot, client: Coordinate | None = None) -> FewerStages | None:
    """Return with how few servers one sequence would be fastest, or None if that is so already.

    Less than what measurements differ by is no reason.

    The fewer ones are the fastest of those there or the nearest to the client side, share the model
    evenly, and are taken to have the memory for it.

    Args:
        snapshot: the servers that take sessions.
        client: where the client side is in the network, if it knows.
    """
    now = fastest_route(snapshot, client)
    if now is None:
        return None
    seconds, hops = now
    fastest = sorted(_online(snapshot), key=lambda server: (_block_seconds(server), server.peer_id))
    nearest = sorted(fastest, key=lambda server: way(client, server.coordinate))
    best = min(
        (
            (_shared(snapshot.total_blocks, order[:count], client), count)
            for order in (fastest, nearest)
            for count in range(1, hops)
        ),
        default=None,
    )
    if best is None or best[0] >= WORTH * seconds:
        return None
    fewer_seconds, fewer = best
    return FewerStages(hops, seconds, fewer, fewer_seconds, -(-snapshot.total_blocks // fewer))


def fastest_route(snapshot: Snapshot, client: Coordinate | None = None) -> tuple[float, int] | None:
    """Return the seconds of one sequence's decode step and through how many servers it passes.

    Returns:
        those of the fastest route through all blocks; None where blocks are missing.
    """
    servers = _online(snapshot)
    starts = np.array([server.start for server in servers])
    ends = np.array([server.end for server in servers])
    able = [np.flatnonzero((starts <= at) & (at < ends)) for at in range(snapshot.total_blocks)]
    if not all(map(len, able)):
        return None
    to_client = HOP_SECONDS + np.array([way(client, server.coordinate) for server in servers])
    costs = Costs(
        block=np.array([_block_seconds(server) for server in servers]),
        enter=to_client,
        onto=np.full(len(servers), HOP_SECONDS),
        leave=to_client,
        points=points(server.coordinate for server in servers),
    )
    seconds, path = cheapest(costs, able)
    return seconds, len(list(itertools.groupby(path)))


def _online(snapshot: Snapshot) -> list[Placed]:
    return [server for server in snapshot.servers if server.throughput > 0]


def _block_seconds(server: Placed) -> float:
    return 1 / (server.throughput * server.num_blocks)


def _shared(total_blocks: int, servers: Sequence[Placed], client: Coordinate | None) -> float:
    """Return a step's seconds where these share the blocks evenly, each next one the nearest."""
    seconds = total_blocks * sum(map(_block_seconds, servers)) / len(servers)
    here, left = client, list(servers)
    while left:
        following = min(left, key=lambda server: way(here, server.coordinate))
        seconds += HOP_SECONDS + way(here, following.coordinate)
        here = following.coordinate
        left.remove(following)
    return seconds + HOP_SECONDS + way(here, client)


def _one_by_one(snapshot: Snapshot, order: Callable[[Placed], tuple[float, str]]) -> Snapshot:
    """Return the servers where they end if they join in an order."""
    placed = [server for server in snapshot.servers if server.fixed]
    floor = snapshot.replica_floor
    fixed = Snapshot.of(snapshot.total_blocks, placed)
    held, replicas = fixed.block_throughput.copy(), fixed.replicas.copy()
    for server in sorted((s for s in snapshot.servers if not s.fixed), key=order):
        weak = strength(held, replicas, floor)
        start = best_start(weak, server.num_blocks, server.throughput)
        moved = replace(server, start=start, end=start + server.num_blocks)
        held[moved.start : moved.end] += server.throughput
        replicas[moved.start : moved.end] += 1
        placed.append(moved)
    return Snapshot.of(snapshot.total_blocks, placed, floor)


def _refined(snapshot: Snapshot) -> Snapshot:
    """Return it after moves of one server at a time that add capacity, while there are any.

    None of them takes a copy away that a block should have.
    """
    for _ in range(_MOST_MOVES):
        moves = _all_moves(snapshot)
        if not len(moves.who):
            break
        reached = moves.capacities()
        best = int(reached.argmax())
        if reached[best] <= capacity(snapshot) * _BETTER:
            break
        server = snapshot.servers[moves.who[best]]
        start = int(moves.starts[best])
        better = snapshot.with_server(replace(server, start=start, end=start + server.num_blocks))
        if better.missing_copies > snapshot.missing_copies:
            break
        snapshot = better
    return snapshot


def _all_moves(snapshot: Snapshot) -> Candidates:
    """Return every move of one server, or as many as are compared at once."""
    moves = [
        (index, start)
        for index, server in enumerate(snapshot.servers)
        if not server.fixed
        for start in range(snapshot.total_blocks - server.num_blocks + 1)
        if start != server.start
    ]
    step = -(-len(moves) // most_placements(snapshot.total_blocks)) or 1
    some = np.array(moves[::step], np.int64).reshape(-1, 2)
    return Candidates(snapshot, some[:, 0], some[:, 1])
