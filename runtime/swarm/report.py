"""What stage 0 says of the whole swarm: one typed record, the answer of GET /swarm."""

from typing import Final, Literal

from pydantic import Field

from runtime.spec.base import Frozen, Span
from runtime.swarm.records import State

MOST_SERVERS: Final = 1000
MOST_REMARKS: Final = 100
MOST_EVENTS: Final = 200

EventKind = Literal[
    "came",
    "chose",
    "online",
    "moves",
    "stays",
    "leaves",
    "restarted",
    "went",
    "gap",
    "covered",
]


class Event(Frozen):
    """Something that happened in the swarm, as stage 0 saw it."""

    at: float = Field(description="seconds since 1970, by stage 0's clock")
    kind: EventKind = Field(description="what happened")
    peer_id: str = Field(default="", description="the server; empty for gap and covered")
    blocks: Span = Field(description="the blocks it has, or that nobody had")
    to: Span | None = Field(default=None, description="moves: the blocks it goes to")
    seconds: float | None = Field(default=None, description="covered: how long nobody had them")
    reason: str = Field(default="", description="in the server's own words")

    def __str__(self) -> str:
        """Return it as a sentence without its time and its server."""
        said = _SENTENCES[self.kind].format(event=self)
        return f"{said}: {self.reason}" if self.reason else said


_SENTENCES: Final[dict[EventKind, str]] = {
    "came": "came, with blocks {event.blocks}",
    "chose": "takes blocks {event.blocks}",
    "online": "serves blocks {event.blocks}",
    "moves": "moves from blocks {event.blocks} to {event.to}",
    "stays": "stays at blocks {event.blocks} after all",
    "leaves": "is about to leave blocks {event.blocks}",
    "restarted": "started anew, with blocks {event.blocks}",
    "went": "went; it had blocks {event.blocks}",
    "gap": "nobody serves blocks {event.blocks}",
    "covered": "blocks {event.blocks} are served again, after {event.seconds:.0f} s",
}


class Shortage(Frozen):
    """Blocks that nobody serves."""

    blocks: Span
    help: str = Field(description="what would help")

    def __str__(self) -> str:
        """Return both, in the numbers of the blocks themselves."""
        first, last = self.blocks.start, self.blocks.end - 1
        return f"{f'block {first}' if first == last else f'blocks {first} to {last}'}: {self.help}"


class Remark(Frozen):
    """Why what a server says of itself does not count, or not as it says it."""

    peer_id: str
    problem: str
    hint: str = Field(description="what to do next")


class ServerReport(Frozen):
    """One server, as its record and stage 0's own sessions show it."""

    peer_id: str
    stage: int = Field(description="its place under fixed splits; 0 is a client side")
    address: str = Field(description="the first that it announces: host:port of its data plane")
    state: State
    fixed: bool = Field(description="it has fixed splits and never moves")
    blocks: Span = Field(description="what it serves, loads or is about to take")
    to: Span | None = Field(default=None, description="the blocks it is moving to")
    throughput: float = Field(
        description="decode steps per second through all its blocks, as its record says it and as "
        "far as that can be believed beside the others"
    )
    believed: float = Field(
        description="the same as stage 0 reckons with it: no more than its own sessions have seen"
    )
    sessions: int = Field(description="this stage 0's, open there now")
    kv_bytes: int = Field(description="room for keys and values")
    kv_taken_bytes: int = Field(description="of it, what this stage 0's sessions may take")
    reason: str = Field(description="of its last decision")
    software: str = Field(description="its release")


class Capacity(Frozen):
    """What the placement is worth, in decode steps per second of all sequences together."""

    now: float = Field(description="of the servers that are online, where they are")
    best_known: float = Field(description="of the best placement known of the same servers")
    quality: float = Field(description="now / best_known, 0 to 1; 1 if there is nothing to place")


class Hop(Frozen):
    """One server of a route, and the way to it."""

    peer_id: str
    blocks: Span = Field(description="what it runs there")
    way_ms: float | None = Field(
        description="milliseconds one way from the server before it, of the first one from stage "
        "0; null: not known"
    )


class SwarmReport(Frozen):
    """All servers of a model, what is missing, and what happened lately."""

    version: Literal[1] = Field(default=1, description="of this format")
    at: float = Field(description="seconds since 1970, by stage 0's clock")
    model_digest: str
    total_blocks: int
    complete: bool = Field(description="every block is served")
    replicas: tuple[int, ...] = Field(description="of each block, online servers that have it")
    missing: tuple[Shortage, ...]
    single_copies: tuple[Span, ...] = Field(description="blocks that one server alone serves")
    capacity: Capacity
    advice: str = Field(default="", description="what would make one sequence faster, if known")
    route: tuple[Hop, ...] = Field(
        default=(),
        max_length=MOST_SERVERS,
        description="of a session that is alone, in order; empty where blocks are missing",
    )
    way_back_ms: float | None = Field(
        default=None, description="milliseconds from the last server of it to stage 0, if known"
    )
    servers: tuple[ServerReport, ...] = Field(
        max_length=MOST_SERVERS, description="ordered by their first block"
    )
    left_out: int = Field(default=0, description="servers beyond those that are listed")
    remarks: tuple[Remark, ...] = Field(max_length=MOST_REMARKS)
    events: tuple[Event, ...] = Field(max_length=MOST_EVENTS, description="the latest last")
