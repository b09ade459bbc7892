"""Which servers a session passes through: a pure choice over what the directory says."""

from collections.abc import Iterable

from runtime.errors import RouteError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo


def route(servers: Iterable[ServerInfo], span: Span) -> tuple[ServerInfo, ...]:
    """Return a chain of online servers whose spans tile the blocks of `span`, in order.

    Every block is run by exactly one server, and every server runs its whole span. Of several
    servers with the same span the one with the higher throughput is taken, of equals the one with
    the smaller peer id, so that the choice depends on the records alone.

    Raises:
        RouteError: which blocks nobody serves.
    """
    online = [server for server in servers if server.state == "online"]
    # From the end to the start: the best continuation behind every block from which there is one.
    behind: dict[int, tuple[ServerInfo, ...]] = {span.end: ()}
    for start in range(span.end - 1, span.start - 1, -1):
        candidates = [
            server
            for server in online
            if server.start == start < server.end and server.end in behind
        ]
        if candidates:
            best = min(candidates, key=lambda server: (-server.throughput, server.peer_id))
            behind[start] = (best, *behind[best.end])
    if span.start in behind:
        return behind[span.start]
    raise RouteError(
        f"no chain of servers covers blocks {span}: {_explanation(online, span)}",
        hint="see which stages are down: stagefleet service status --inventory <site>",
    )


def _explanation(online: list[ServerInfo], span: Span) -> str:
    covered = {block for server in online for block in range(server.start, server.end)}
    missing = [block for block in range(span.start, span.end) if block not in covered]
    if not missing:
        return "their spans overlap without tiling"
    spans = []
    first = last = missing[0]
    for block in [*missing[1:], -1]:
        if block == last + 1:
            last = block
            continue
        spans.append(f"[{first}, {last + 1})")
        first = last = block
    return f"nobody serves {', '.join(spans)}"
