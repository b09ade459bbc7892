"""What happened in a swarm, told from one look at it to the next."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo, State
from runtime.swarm.report import MOST_EVENTS, Event, EventKind
from runtime.swarm.shortage import intervals, replicas


def events(
    before: Iterable[ServerInfo], after: Iterable[ServerInfo], at: float
) -> tuple[Event, ...]:
    """Return what has happened to servers between two looks, in the order of their peer ids.

    What came and went between the looks is not seen.

    Args:
        before: the records of the first look, one for each peer id.
        after: those of the second look.
        at: when that was, in seconds since 1970.
    """
    old = {server.peer_id: server for server in before}
    new = {server.peer_id: server for server in after}
    return tuple(
        event
        for peer_id in sorted(old.keys() | new.keys())
        for event in _told(old.get(peer_id), new.get(peer_id), at)
    )


class History:
    """The latest events of a swarm, and the gaps that are open."""

    def __init__(self, span: Span) -> None:
        """Start before the first look.

        Args:
            span: the blocks that have to be served.
        """
        self._span = span
        self._servers: tuple[ServerInfo, ...] | None = None
        self._missing: dict[int, float] = {}
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    @property
    def events(self) -> tuple[Event, ...]:
        """The latest events, the last one last."""
        return tuple(self._events)

    def take(self, servers: tuple[ServerInfo, ...], at: float) -> tuple[Event, ...]:
        """Return what is new at another look, and keep it.

        At the first look nobody has come: who is there may have been there for long.

        Args:
            servers: all that may serve a block of the span.
            at: when it was, in seconds since 1970.
        """
        known = servers if self._servers is None else self._servers
        found = (*events(known, servers, at), *self._gaps(servers, at))
        self._servers = servers
        self._events.extend(found)
        return found

    def _gaps(self, servers: tuple[ServerInfo, ...], at: float) -> Iterator[Event]:
        copies = replicas(servers, self._span)
        missing = {block for block, count in enumerate(copies, self._span.start) if count == 0}
        closed = sorted(self._missing.keys() - missing)
        # Blocks that were lost at different times are told apart.
        for since, blocks in itertools.groupby(closed, self._missing.__getitem__):
            for blocks_together in intervals(blocks):
                yield Event(at=at, kind="covered", blocks=blocks_together, seconds=at - since)
        for blocks_together in intervals(sorted(missing - self._missing.keys())):
            yield Event(at=at, kind="gap", blocks=blocks_together)
        self._missing = {block: self._missing.get(block, at) for block in missing}


_LEAVING: Final[frozenset[State]] = frozenset({"draining", "leaving"})


def _told(old: ServerInfo | None, new: ServerInfo | None, at: float) -> Iterator[Event]:
    """Yield what has happened to one server."""
    if old is None and new is not None:
        yield _event("came", new, at)
    elif new is None and old is not None:
        yield _event("went", old, at)
    elif old is not None and new is not None:
        if old.run != new.run:
            yield _event("restarted", new, at)
        elif old != new:
            yield from _changes(old, new, at)


def _changes(old: ServerInfo, new: ServerInfo, at: float) -> Iterator[Event]:
    stayed = _blocks(old) == _blocks(new)
    target, aim = _target(new), _target(old)
    if target is not None and target != aim:
        yield _event("moves", new, at, to=target)
    elif aim is not None and target is None and stayed:
        yield _event("stays", new, at)
    elif new.state in _LEAVING and old.state not in _LEAVING:
        yield _event("leaves", new, at)
    elif old.state == "reserving" and new.state != "reserving":
        yield _event("chose", new, at)
    elif "reserving" not in {old.state, new.state} and not stayed and aim != _blocks(new):
        # The beginning of the move was not seen.
        yield _event("moves", old, at, to=_blocks(new), reason=_reason(new))
    if new.state == "online" and (old.state in {"reserving", "joining"} or not stayed):
        yield _event("online", new, at)


def _event(
    kind: EventKind,
    server: ServerInfo,
    at: float,
    *,
    to: Span | None = None,
    reason: str | None = None,
) -> Event:
    return Event(
        at=at,
        kind=kind,
        peer_id=server.peer_id,
        blocks=_blocks(server),
        to=to,
        reason=_reason(server) if reason is None else reason,
    )


def _blocks(server: ServerInfo) -> Span:
    return Span(start=server.start, end=server.end)


def _target(server: ServerInfo) -> Span | None:
    if server.seating is None or server.seating.target is None:
        return None
    start, end = server.seating.target
    return Span(start=start, end=end)


def _reason(server: ServerInfo) -> str:
    return "" if server.seating is None else server.seating.reason
