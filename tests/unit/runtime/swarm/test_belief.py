import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.swarm.belief import (
    HALF_LIFE_SECONDS,
    MOST_TIMES_MEDIAN,
    TRUST,
    Paces,
    Part,
    believed,
    bounded,
)
from runtime.swarm.records import Seating, ServerInfo
from tests.support.records import info


def server(name: str, throughput: float, blocks: int = 8, **fields: object) -> ServerInfo:
    known = {"peer_id": name, "throughput": throughput, "start": 0, "end": blocks}
    return info(**known | fields)


def throughputs(*servers: ServerInfo) -> list[float]:
    return [one.throughput for one in bounded(servers)]


def test_a_self_declared_million_counts_as_a_hundred_times_the_others() -> None:
    liar = server("liar", 1e6)
    assert throughputs(server("a", 10.0), liar, server("b", 30.0)) == [10.0, 2000.0, 30.0]


def test_what_is_compared_is_blocks_a_second() -> None:
    """Through one block a server is as much faster as it is shorter."""
    short = server("short", 800.0, blocks=1)
    assert throughputs(server("a", 10.0), short) == [10.0, 800.0]
    assert throughputs(server("a", 10.0), server("b", 1e5, blocks=1)) == [10.0, 8000.0]


def test_who_reserves_is_bounded_too() -> None:
    liar = server("liar", 1e6, blocks=0, state="reserving", seating=Seating(num_blocks=4))
    assert throughputs(server("a", 10.0), liar) == [10.0, 2000.0]


@pytest.mark.parametrize(
    "servers", [[], [server("a", 1e9)], [server("a", 1e9), server("loads", 0.0)]]
)
def test_where_there_is_nothing_to_compare_everybody_is_believed(
    servers: list[ServerInfo],
) -> None:
    assert bounded(servers) == tuple(servers)


declared = st.lists(st.floats(0, 1e9), max_size=9)


@given(declared, st.randoms())
def test_the_bound_depends_on_the_records_alone(values: list[float], random: Random) -> None:
    servers = [server(f"Qm{number}", value) for number, value in enumerate(values)]
    found = bounded(servers)
    shuffled = random.sample(servers, len(servers))
    assert sorted(bounded(shuffled), key=lambda one: one.peer_id) == list(found)
    for one, before in zip(found, servers, strict=True):
        assert one.throughput <= before.throughput
        others = [value for other, value in zip(servers, values, strict=True) if other != before]
        rest = [value for value in others if value > 0]
        if rest:
            limit = MOST_TIMES_MEDIAN * statistics.median(rest)
            assert one.throughput == pytest.approx(min(before.throughput, limit))


@given(st.floats(1, 100), st.integers(1, 4), st.integers(0, 4))
def test_liars_in_the_minority_are_bounded_by_the_honest(
    honest: float, liars: int, more: int
) -> None:
    servers = [server(f"Qm{number}", honest) for number in range(liars + more)]
    servers += [server(f"liar{number}", 1e9) for number in range(liars)]
    # For each liar the rest has more honest servers than others.
    assert max(throughputs(*servers)) == pytest.approx(MOST_TIMES_MEDIAN * honest)


@given(st.floats(0, 1e9), st.none() | st.floats(0, 1e9))
def test_nobody_is_believed_more_than_it_says_or_three_times_what_is_seen(
    says: float, seen: float | None
) -> None:
    found = believed(says, seen)
    assert found <= says
    assert found == says if seen is None else found <= TRUST * seen
    if seen is not None and says <= TRUST * seen:
        assert found == says


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def observed(paces: Paces, part: Part) -> float:
    found = paces.observed(part.peer_id, part.declared)
    assert found is not None
    return found


def test_a_server_alone_on_a_route_is_known_after_one_step() -> None:
    paces, liar = Paces(Clock()), Part("liar", 10, 1e6)
    assert paces.observed("liar", 1e6) is None
    paces.observe([liar], 0.5)
    assert observed(paces, liar) == pytest.approx(20)


def test_routes_that_share_servers_tell_who_is_slow() -> None:
    """Two honest replicas beside a liar that is as slow as a route through it shows."""
    paces = Paces(Clock())
    honest = [Part("a", 10, 100.0), Part("b", 10, 100.0)]
    liar = Part("liar", 10, 1e6)
    for _ in range(60):
        for one in honest:
            paces.observe([one, liar], 0.1 + 1.0)
        paces.observe(honest, 0.2)
    assert observed(paces, liar) == pytest.approx(10, rel=0.05)
    for one in honest:
        assert observed(paces, one) == pytest.approx(100, rel=0.05)
        assert believed(100.0, observed(paces, one)) == 100.0


def test_what_was_seen_fades() -> None:
    clock = Clock()
    paces, slow = Paces(clock), Part("slow", 1, 10.0)
    paces.observe([slow], 1.1)
    assert 1 / observed(paces, slow) == pytest.approx(1.1)
    clock.now = HALF_LIFE_SECONDS
    assert 1 / observed(paces, slow) == pytest.approx(0.6)
    clock.now = 100 * HALF_LIFE_SECONDS
    assert observed(paces, slow) == pytest.approx(10)


parts = st.builds(Part, st.sampled_from("abcd"), st.integers(0, 99), st.floats(1e-3, 1e9))
routes = st.lists(parts, max_size=4, unique_by=lambda part: part.peer_id)


@given(st.lists(st.tuples(routes, st.floats(-10, 1e6) | st.just(float("nan"))), max_size=12))
def test_no_observation_makes_a_server_faster_than_it_says(
    seen: list[tuple[list[Part], float]],
) -> None:
    paces = Paces(Clock())
    for route, seconds in seen:
        paces.observe(route, seconds)
        for part in route:
            rate = paces.observed(part.peer_id, part.declared)
            assert rate is None or 0 < rate <= part.declared * (1 + 1e-9)


def test_what_is_kept_is_bounded() -> None:
    paces = Paces(Clock())
    for number in range(1500):
        paces.observe([Part(f"Qm{number}", 1, 1.0)], 5.0)
    assert paces.observed("Qm0", 1.0) is None
    assert paces.observed("Qm1499", 1.0) is not None
