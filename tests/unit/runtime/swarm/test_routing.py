import itertools
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.balance.coordinate import Coordinate, known_distance
from runtime.balance.path import HOP_SECONDS, UNKNOWN_LATENCY_SECONDS
from runtime.errors import RouteError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.routing import (
    LAST_RESORT_SECONDS,
    Experience,
    Leg,
    route,
)
from tests.support.balance import coordinates
from tests.support.records import info

BLOCKS = 7
WHOLE = Span(start=0, end=BLOCKS)
NAMES = "abcdef"


def server(start: int, end: int, name: str = "", **fields: object) -> ServerInfo:
    name = name or f"Qm{start}-{end}"
    return info(**{"peer_id": name, "start": start, "end": end, "total_blocks": 99} | fields)


def legs_of(found: tuple[Leg, ...]) -> list[tuple[str, int, int]]:
    return [(leg.server.peer_id, leg.start, leg.end) for leg in found]


spans = st.tuples(st.integers(0, BLOCKS), st.integers(0, BLOCKS)).filter(lambda s: s[0] < s[1])
swarms = st.lists(
    st.builds(
        lambda span, name, state, throughput, kv_bytes, where: server(
            span[0],
            span[1],
            name,
            state=state,
            throughput=throughput,
            kv_bytes=kv_bytes,
            coordinate=where,
        ),
        spans,
        st.sampled_from(NAMES),
        st.sampled_from(["online", "online", "online", "joining", "draining"]),
        # From far slower than a hop to far faster, with ties.
        st.sampled_from([0.0, 1.0, 10.0, 10.0, 100.0, 10_000.0]),
        st.integers(0, BLOCKS),
        st.none() | coordinates(),
    ),
    max_size=6,
    unique_by=lambda one: one.peer_id,
)
experiences = st.builds(
    Experience,
    sessions=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 4)),
    kv_bytes=st.dictionaries(st.sampled_from(NAMES), st.integers(0, BLOCKS)),
    latency=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 0.2)),
    coordinate=st.none() | coordinates(),
    avoided=st.frozensets(st.sampled_from(NAMES), max_size=2),
)


def seconds(legs: tuple[Leg, ...], span: Span, known: Experience, block_kv_bytes: int) -> float:
    """Return what `route` promises to be least, from its description alone."""
    total = 0.0
    for leg in legs:
        one = leg.server
        own_blocks = one.end - one.start
        pace = 1 / (max(one.throughput, 1e-3) * own_blocks)
        total += (leg.end - leg.start) * pace * (1 + known.sessions.get(one.peer_id, 0))
        total += HOP_SECONDS
        inside = min(one.end, span.end) - max(one.start, span.start)
        free = one.kv_bytes - known.kv_bytes.get(one.peer_id, 0)
        if one.peer_id in known.avoided or inside * block_kv_bytes > free:
            total += LAST_RESORT_SECONDS
    between = [(one.server.coordinate, two.server.coordinate) for one, two in pairwise(legs)]
    ways = [known_distance(*pair) for pair in between]
    for end in (legs[0].server, legs[-1].server):
        measured = known.latency.get(end.peer_id)
        told = known_distance(known.coordinate, end.coordinate)
        ways.append(told if measured is None else measured)
    seconds = (UNKNOWN_LATENCY_SECONDS if one is None else one for one in ways)
    return total + sum(seconds) + HOP_SECONDS


def every_route(servers: list[ServerInfo], span: Span) -> Iterator[tuple[Leg, ...]]:
    """Yield every route through different online servers, by trying everything."""
    if len(span) == 0:
        yield ()
    for one in servers:
        if one.state == "online" and one.start <= span.start < one.end:
            others = [other for other in servers if other is not one]
            for end in range(span.start + 1, min(one.end, span.end) + 1):
                for rest in every_route(others, Span(start=end, end=span.end)):
                    yield (Leg(one, span.start, end), *rest)


@settings(max_examples=400, deadline=None)
@given(swarms, st.integers(0, BLOCKS - 1), experiences, st.integers(0, 2))
def test_the_route_is_the_fastest_of_all_that_run_each_block_once(
    servers: list[ServerInfo], start: int, known: Experience, block_kv_bytes: int
) -> None:
    span = Span(start=start, end=BLOCKS)
    possible = [seconds(legs, span, known, block_kv_bytes) for legs in every_route(servers, span)]
    try:
        found = route(servers, span, known, block_kv_bytes)
    except RouteError:
        assert not possible
        return
    assert [block for leg in found for block in range(leg.start, leg.end)] == list(
        range(start, BLOCKS)
    )
    assert all(leg.server.start <= leg.start < leg.end <= leg.server.end for leg in found)
    assert len({leg.server.peer_id for leg in found}) == len(found)
    assert all(leg.server in servers and leg.server.state == "online" for leg in found)
    assert seconds(found, span, known, block_kv_bytes) == pytest.approx(min(possible), rel=1e-9)


@given(swarms, experiences, st.randoms())
def test_the_order_of_the_records_does_not_matter(
    servers: list[ServerInfo], known: Experience, random: Random
) -> None:
    shuffled = random.sample(servers, len(servers))
    if any(every_route(servers, WHOLE)):
        assert route(servers, WHOLE, known) == route(shuffled, WHOLE, known)


@given(st.sets(st.integers(1, 29), max_size=6), st.integers(1, 3), st.randoms())
def test_with_splits_each_stage_is_one_leg_and_of_replicas_the_faster_is_taken(
    splits: set[int], replicas: int, random: Random
) -> None:
    bounds = [0, *sorted(splits), 30]
    servers = [
        server(start, end, f"{start}-{replica}", throughput=float(random.randint(1, 3)))
        for start, end in itertools.pairwise(bounds)
        for replica in range(replicas)
    ]
    wanted = [
        min(
            (one for one in servers if one.start == start),
            key=lambda one: (-one.throughput, one.peer_id),
        )
        for start in bounds[:-1]
    ]
    random.shuffle(servers)
    found = route(servers, Span(start=0, end=30))
    assert found == tuple(Leg(one, one.start, one.end) for one in wanted)


def test_a_route_enters_and_leaves_spans_in_the_middle() -> None:
    slow = server(0, 6, "slow", throughput=1.0)
    fast = server(2, 4, "fast", throughput=90.0)
    end = server(3, 7, "end", throughput=1.0)
    found = route([slow, fast, end], Span(start=1, end=7))
    assert legs_of(found) == [("slow", 1, 2), ("fast", 2, 4), ("end", 4, 7)]


def test_a_fast_server_inside_a_slow_one_is_left_out_if_only_that_one_can_go_on() -> None:
    around = server(0, 7, "around", throughput=1.0)
    inside = server(2, 4, "inside", throughput=90.0)
    assert legs_of(route([around, inside], WHOLE)) == [("around", 0, 7)]
    other = server(4, 7, "other", throughput=2.0)
    assert legs_of(route([around, inside, other], WHOLE)) == [
        ("around", 0, 2),
        ("inside", 2, 4),
        ("other", 4, 7),
    ]


def test_what_a_hop_costs_decides_between_few_slow_and_many_fast_servers() -> None:
    one = server(0, 4, "one", throughput=100.0)
    halves = [server(0, 2, "left", throughput=220.0), server(2, 4, "right", throughput=220.0)]
    span = Span(start=0, end=4)
    # 10 ms on one, 9.1 ms and a millisecond for a hop on two.
    assert legs_of(route([one, *halves], span)) == [("one", 0, 4)]
    far = Experience(latency={"one": 0.02})
    assert len(route([one, *halves], span, far)) == 2


def test_a_near_server_is_taken_before_one_far_away() -> None:
    servers = [server(0, 4, "a"), server(0, 4, "b")]
    known = Experience(latency={"a": 0.1, "b": 0.001})
    assert legs_of(route(servers, Span(start=0, end=4), known)) == [("b", 0, 4)]


def test_a_route_stays_where_its_servers_are_near_each_other() -> None:
    here, there = Coordinate(0, 0), Coordinate(0.05, 0)
    servers = [
        server(start, start + 2, f"{name}{start}", coordinate=where)
        for name, where in (("a", here), ("b", there))
        for start in (0, 2, 4)
    ]
    span = Span(start=0, end=6)
    # Stage 0 knows its own ways only: "b0" is the nearest to it, and "a4".
    known = Experience(latency={"b0": 0.001, "a4": 0.001} | dict.fromkeys(["a0", "b4"], 0.02))
    assert [leg.server.peer_id for leg in route(servers, span, known)] == ["a0", "a2", "a4"]
    blind = [msgspec.structs.replace(one, coordinate=None) for one in servers]
    assert [leg.server.peer_id for leg in route(blind, span, known)] == ["b0", "a2", "a4"]
    # Where it has measured nothing, its own coordinate tells what it would measure.
    told = Experience(coordinate=there)
    assert [leg.server.peer_id for leg in route(servers, span, told)] == ["b0", "b2", "b4"]


@pytest.mark.parametrize(
    ("throughputs", "sessions"),
    [((10.0, 10.0, 10.0), 30), ((30.0, 10.0), 40), ((50.0, 20.0, 10.0), 80)],
)
def test_sessions_spread_over_replicas_in_proportion_to_their_throughput(
    throughputs: tuple[float, ...], sessions: int
) -> None:
    servers = [
        server(0, 4, NAMES[index], throughput=value) for index, value in enumerate(throughputs)
    ]
    open_now: Counter[str] = Counter()
    for _ in range(sessions):
        (leg,) = route(servers, Span(start=0, end=4), Experience(sessions=open_now))
        open_now[leg.server.peer_id] += 1
    share = sessions / sum(throughputs)
    assert [open_now[one.peer_id] for one in servers] == [
        pytest.approx(value * share, abs=1) for value in throughputs
    ]


@pytest.mark.parametrize(
    "known",
    [
        Experience(avoided=frozenset({"a"})),
        Experience(kv_bytes={"a": 89}),
    ],
)
def test_who_failed_lately_or_has_no_room_is_taken_only_where_nobody_else_is(
    known: Experience,
) -> None:
    first = server(0, 4, "a", throughput=1000.0, kv_bytes=100)
    others = [server(0, 3, "b", throughput=0.1), server(3, 4, "c", throughput=0.1)]
    span = Span(start=0, end=4)
    needs = 3  # for each of four blocks; with 89 of 100 taken there is not enough
    assert legs_of(route([first, *others], span, Experience(), needs)) == [("a", 0, 4)]
    assert [leg.server.peer_id for leg in route([first, *others], span, known, needs)] == ["b", "c"]
    assert legs_of(route([first, *others[:1]], span, known, needs))[-1][0] == "a"


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([], "nobody serves [0, 12)"),
        ([server(0, 4), server(8, 12)], "nobody serves [4, 8)"),
        ([server(2, 4), server(6, 11)], "nobody serves [0, 2), [4, 6), [11, 12)"),
        ([server(0, 12, state="joining")], "nobody serves [0, 12)"),
        # Another client side with blocks of its own takes no sessions.
        ([server(0, 7, stage=0), server(5, 12)], "nobody serves [0, 5)"),
    ],
)
def test_what_is_missing_is_said(servers: list[ServerInfo], said: str) -> None:
    with pytest.raises(RouteError) as found:
        route(servers, Span(start=0, end=12))
    assert said in str(found.value)


def test_nothing_to_run_needs_nobody() -> None:
    assert route([], Span(start=12, end=12)) == ()


def test_many_fast_spans_inside_slow_ones_do_not_take_long_to_decide() -> None:
    """Every second block is faster elsewhere, for three servers that have them all."""
    blocks = 80
    servers = [server(0, blocks, f"slow{index}", throughput=0.01) for index in range(3)]
    servers += [
        server(block, block + 1, f"fast{block}", throughput=1e4) for block in range(1, blocks, 2)
    ]
    started = time.process_time()
    found = route(servers, Span(start=0, end=blocks))
    assert time.process_time() - started < 2
    assert [block for leg in found for block in range(leg.start, leg.end)] == list(range(blocks))
    assert len({leg.server.peer_id for leg in found}) == len(found)
