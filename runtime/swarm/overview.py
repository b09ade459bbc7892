"""The swarm at one moment as people and programs see it: a pure function of what is known."""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runtime.balance.capacity import capacity
from runtime.balance.coordinate import known_distance
from runtime.balance.planner import best_known, fewer_stages
from runtime.balance.snapshot import Placed, Snapshot
from runtime.errors import RouteError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.report import (
    MOST_REMARKS,
    MOST_SERVERS,
    Capacity,
    Event,
    Hop,
    Remark,
    ServerReport,
    SwarmReport,
)
from runtime.swarm.routing import Experience, route
from runtime.swarm.shortage import intervals, replicas, shortages


@dataclass(frozen=True)
class Known:
    """What stage 0 knows.

    Attributes:
        at: when, in seconds since 1970.
        own: its own record.
        servers: the records of all servers, its own too if it has been announced.
        sessions: sessions of its own that are open on servers, by peer id.
        kv_bytes: what these may take for keys and values, by peer id.
        observed: decode steps per second that it reckons with, for servers that its sessions have
            seen, by peer id.
        latency: seconds one way between it and servers, where that was measured, by peer id.
        replica_floor: so many copies every block should have.
        remarks: on records that do not count, or not as they say it.
        events: what happened lately, the latest last.
    """

    at: float
    own: ServerInfo
    servers: tuple[ServerInfo, ...]
    sessions: Mapping[str, int] = field(default_factory=dict)
    kv_bytes: Mapping[str, int] = field(default_factory=dict)
    observed: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[str, float] = field(default_factory=dict)
    replica_floor: int = 1
    remarks: tuple[Remark, ...] = ()
    events: tuple[Event, ...] = ()


def overview(known: Known) -> SwarmReport:
    """Return the report on a swarm.

    Where stage 0 has blocks of its own, they count as served; those of other client sides do not,
    because they take no sessions.
    """
    own = known.own
    servers = serving_us(known.servers, own)
    whole = Span(start=0, end=own.total_blocks)
    missing = shortages(servers, whole)
    copies = replicas(servers, whole)
    single = (block for block, count in enumerate(copies) if count == 1)
    hops, back = _route(known)
    shown = sorted((own, *_others(known.servers, own)), key=lambda s: (s.start, s.end, s.peer_id))
    return SwarmReport(
        at=known.at,
        model_digest=own.model_digest,
        total_blocks=own.total_blocks,
        complete=not missing,
        replicas=copies,
        missing=missing,
        single_copies=tuple(intervals(single)),
        capacity=worth(servers, own.total_blocks, known.replica_floor),
        advice=_advice(servers, own),
        route=hops,
        way_back_ms=back,
        servers=tuple(_server(server, known) for server in shown[:MOST_SERVERS]),
        left_out=max(0, len(shown) - MOST_SERVERS),
        remarks=known.remarks[:MOST_REMARKS],
        events=known.events,
    )


def _route(known: Known) -> tuple[tuple[Hop, ...], float | None]:
    """Return the fastest route of a session that is alone, and the milliseconds of the way back."""
    own = known.own
    experience = Experience(latency=known.latency, coordinate=own.coordinate)
    try:
        legs = route(known.servers, Span(start=own.end, end=own.total_blocks), experience)
    except RouteError:
        return (), None
    if not legs:
        return (), None

    def to_stage_0(server: ServerInfo) -> float | None:
        told = known_distance(own.coordinate, server.coordinate)
        return known.latency.get(server.peer_id, told)

    ways = [
        to_stage_0(legs[0].server),
        *(
            known_distance(one.server.coordinate, other.server.coordinate)
            for one, other in itertools.pairwise(legs)
        ),
    ]
    hops = tuple(
        Hop(
            peer_id=leg.server.peer_id,
            blocks=Span(start=leg.start, end=leg.end),
            way_ms=_milliseconds(way),
        )
        for leg, way in zip(legs, ways, strict=True)
    )
    return hops[:MOST_SERVERS], _milliseconds(to_stage_0(legs[-1].server))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def serving_us(servers: tuple[ServerInfo, ...], own: ServerInfo) -> tuple[ServerInfo, ...]:
    """Return the servers that run blocks for this stage 0: itself, and all that take sessions."""
    return (own, *(server for server in _others(servers, own) if server.stage > 0))


def worth(servers: tuple[ServerInfo, ...], total_blocks: int, replica_floor: int = 1) -> Capacity:
    """Return what a placement is worth, and what the same servers could reach."""
    now = _placements(servers, total_blocks, settled=False)
    reached = _capacity(now)
    then = replace(_placements(servers, total_blocks, settled=True), replica_floor=replica_floor)
    best = max(reached, _capacity(_best_known(then)))
    return Capacity(now=reached, best_known=best, quality=reached / best if best > 0 else 1.0)


@functools.lru_cache(maxsize=4)
def _best_known(snapshot: Snapshot) -> Snapshot:
    return best_known(snapshot)


def _advice(servers: tuple[ServerInfo, ...], own: ServerInfo) -> str:
    """Return what would make one sequence faster, or nothing."""
    placed = _placements(servers, own.total_blocks, settled=False)
    found = fewer_stages(placed, own.coordinate)
    return found.reason if found else ""


@functools.lru_cache(maxsize=8)
def _capacity(snapshot: Snapshot) -> float:
    # Nothing passes a gap; said so at once, because the search for it takes its time.
    return 0.0 if snapshot.holes else capacity(snapshot)


def _placements(servers: tuple[ServerInfo, ...], total_blocks: int, *, settled: bool) -> Snapshot:
    """Return who serves what now, or once everybody who has chosen blocks serves them."""
    placed = []
    for server in servers:
        target = None if server.seating is None or not settled else server.seating.target
        start, end = target or (server.start, server.end)
        chosen = server.state != "reserving" if settled else server.state == "online"
        if chosen and start < end:
            fixed = server.seating is None
            placed.append(
                Placed(
                    server.peer_id,
                    start,
                    end,
                    server.throughput,
                    fixed=fixed,
                    coordinate=server.coordinate,
                )
            )
    return Snapshot.of(total_blocks, placed)


def _others(servers: tuple[ServerInfo, ...], own: ServerInfo) -> tuple[ServerInfo, ...]:
    return tuple(server for server in servers if server.peer_id != own.peer_id)


def _server(server: ServerInfo, known: Known) -> ServerReport:
    seating, peer_id = server.seating, server.peer_id
    target = None if seating is None or seating.target is None else seating.target
    return ServerReport(
        peer_id=peer_id,
        stage=server.stage,
        address=str(server.addresses[0]),
        state=server.state,
        fixed=seating is None,
        blocks=Span(start=server.start, end=server.end),
        to=None if target is None else Span(start=target[0], end=target[1]),
        throughput=server.throughput,
        believed=min(server.throughput, known.observed.get(peer_id, server.throughput)),
        sessions=known.sessions.get(peer_id, 0),
        kv_bytes=server.kv_bytes,
        kv_taken_bytes=known.kv_bytes.get(peer_id, 0),
        reason="" if seating is None else seating.reason,
        software=server.software,
    )
