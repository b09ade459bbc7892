"""What a session has to be like to be opened on a server."""

from itertools import pairwise

from runtime.engine.engine import Engine
from runtime.errors import MovedError, SessionError, WireError
from runtime.spec.base import Span
from runtime.wire.messages import Hop, Open


def check_opening(terms: Open, peer_id: str, engine: Engine, max_batch: int) -> Span:
    """Return the blocks that a session wants of this server.

    Args:
        terms: what was asked for.
        peer_id: this server's own.
        engine: what it has loaded.
        max_batch: how many sequences a session may have.

    Raises:
        WireError: no session can be like this.
        MovedError: the route wants blocks that this server does not have.
        SessionError: it asks for more than this server gives.
    """
    if terms.hop >= len(terms.route):
        raise WireError(f"hop {terms.hop} of a route with {len(terms.route)}")
    _check_route(terms.route, engine.total_blocks)
    if max(terms.padding) >= terms.max_length:
        raise WireError("more padding than positions")
    hop = terms.route[terms.hop]
    span = Span(start=hop.start, end=hop.end)
    if hop.peer_id != peer_id or not engine.span.covers(span):
        raise MovedError(
            f"the route wants blocks {span} of {hop.peer_id}, but this is {peer_id} with blocks "
            f"{engine.span}",
            hint="the swarm has changed; ask again",
        )
    if len(terms.padding) > max_batch:
        raise SessionError(
            f"a batch of {len(terms.padding)}; at most {max_batch} are allowed",
            hint="send fewer prompts together, or raise serving.max_batch",
        )
    longest = terms.max_length - min(terms.padding)
    if longest > engine.max_length:
        raise SessionError(
            f"{longest} tokens; at most {engine.max_length} are allowed",
            hint="ask for fewer tokens",
        )
    return span


def _check_route(route: tuple[Hop, ...], total_blocks: int) -> None:
    """Refuse a route that does not run every block from its first one on once, in order."""
    for hop in route:
        if hop.start >= hop.end:
            raise WireError(f"a hop of blocks [{hop.start}, {hop.end})")
    for before, after in pairwise(route):
        if before.end != after.start:
            raise WireError(
                f"a hop that begins with block {after.start} behind one that ends at {before.end}"
            )
    if route[-1].end != total_blocks:
        raise WireError(f"a route that ends at block {route[-1].end} of {total_blocks}")
    if len({hop.peer_id for hop in route}) < len(route):
        raise WireError("a route that passes through a server twice")
