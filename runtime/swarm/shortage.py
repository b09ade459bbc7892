"""Blocks that nobody serves, and what would help: a pure look at the records."""

import itertools
from collections.abc import Iterable, Iterator

from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.report import Shortage


def shortages(servers: Iterable[ServerInfo], span: Span) -> tuple[Shortage, ...]:
    """Return the parts of a span that no online server has, each with what would help.

    Args:
        servers: that may run blocks of it.
        span: the blocks to be run.
    """
    servers = tuple(servers)
    copies = replicas(servers, span)
    missing = (block for block, count in enumerate(copies, span.start) if count == 0)
    return tuple(Shortage(blocks=gap, help=_help(servers, gap, span)) for gap in intervals(missing))


def will_end(servers: Iterable[ServerInfo], span: Span) -> bool:
    """Return whether somebody is about to serve each part of a span that no online server has."""
    servers = tuple(server for server in servers if server.stage > 0)
    return all(
        any(_brings(server, shortage.blocks) for server in servers)
        for shortage in shortages(servers, span)
    )


def replicas(servers: Iterable[ServerInfo], span: Span) -> tuple[int, ...]:
    """Return how many online servers have a block, for each block of a span."""
    steps = [0] * (len(span) + 1)
    for server in servers:
        start, end = max(server.start, span.start), min(server.end, span.end)
        if server.state == "online" and start < end:
            steps[start - span.start] += 1
            steps[end - span.start] -= 1
    return tuple(itertools.accumulate(steps))[:-1]


def intervals(blocks: Iterable[int]) -> Iterator[Span]:
    """Yield ascending block numbers as spans, as few as possible."""
    start = end = -1
    for block in blocks:
        if block != end:
            if start < end:
                yield Span(start=start, end=end)
            start = block
        end = block + 1
    if start < end:
        yield Span(start=start, end=end)


def _help(servers: tuple[ServerInfo, ...], gap: Span, span: Span) -> str:
    """Return what would help most: to wait, or more room for blocks."""
    coming = [server for server in servers if _brings(server, gap)]
    if coming:
        return f"wait: {_names(coming)} will serve {'it' if len(gap) == 1 else 'some or all'}"
    balanced = [server for server in servers if server.seating is not None]
    if not balanced:
        return (
            f"nobody is about to serve {'it' if len(gap) == 1 else 'them'}: see which stage is "
            "down with ./fleet service status --inventory <site>, or start one that has them"
        )
    count, room = len(gap), sum(map(_room, servers))
    if room < len(span):
        lacking = len(span) - room
        return (
            f"all servers together have room for {room} of {len(span)} blocks: start servers with "
            f"num_blocks of {lacking} in all, or raise num_blocks of those that run by as much"
        )
    free = sum(_could_move(server, servers, gap) for server in balanced)
    if free:
        return (
            f"wait: {free} of the servers can come here, others have what they would leave, and "
            "one moves at its next look at the balance; or start a server with "
            f"num_blocks >= {count}"
        )
    largest = max(map(_room, balanced))
    return (
        f"no server can leave what it has: start a server with num_blocks >= {count}, or raise "
        f"num_blocks of one (the largest has {largest}) by {count}"
    )


def _brings(server: ServerInfo, gap: Span) -> bool:
    """Return whether a server is about to serve a block of a gap."""
    target = None if server.seating is None else server.seating.target
    start, end = target or (server.start, server.end)
    coming = target is not None or server.state in {"reserving", "joining"}
    return coming and max(start, gap.start) < min(end, gap.end)


def _room(server: ServerInfo) -> int:
    """Return how many blocks a server takes."""
    return server.end - server.start if server.seating is None else server.seating.num_blocks


def _could_move(server: ServerInfo, servers: tuple[ServerInfo, ...], gap: Span) -> bool:
    """Return whether an online server can go to a gap, and every block that it leaves has another.

    One that loads blocks beside those it serves may keep what it alone has, if its span holds both.
    """
    if server.state != "online" or server.seating is None or server.start == server.end:
        return False
    copies = replicas(servers, Span(start=server.start, end=server.end))
    alone = [block for block, count in enumerate(copies, server.start) if count < 2]
    if not alone:
        return True
    first = alone[-1] + 1 - server.seating.num_blocks
    reach = Span(start=max(first, 0), end=alone[0] + server.seating.num_blocks)
    near = reach.start < gap.end and gap.start < reach.end
    return server.seating.beside and first <= alone[0] and near


def _names(servers: list[ServerInfo]) -> str:
    first, *others = sorted(server.peer_id for server in servers)
    return f"{first} and {len(others)} more" if others else first
