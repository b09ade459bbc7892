import itertools
import math
import random
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.coordinate import (
    MOST_SECONDS,
    SAME_SECONDS,
    Coordinate,
    distance,
    first,
    known_distance,
    located,
    updated,
    worth_saying,
)
from tests.support.balance import coordinates


def far(one: Coordinate, other: Coordinate, seconds: float) -> float:
    return abs(distance(one, other) - seconds)


@given(coordinates(), coordinates(), coordinates())
def test_distances_are_those_of_ways(one: Coordinate, two: Coordinate, three: Coordinate) -> None:
    assert distance(one, two) == distance(two, one)
    assert distance(one, two) >= one.height + two.height
    assert distance(one, two) <= distance(one, three) + distance(three, two) + 1e-12


@given(coordinates(), coordinates(), st.floats(0, 10))
def test_a_measurement_brings_a_server_nearer_to_where_it_belongs_and_within_bounds(
    me: Coordinate, other: Coordinate, seconds: float
) -> None:
    now = updated(me, other, seconds)
    assert msgspec.convert(msgspec.to_builtins(now), Coordinate) == now
    assert far(now, other, min(seconds, MOST_SECONDS)) <= (
        far(me, other, min(seconds, MOST_SECONDS)) + 1e-4
    )
    # Whatever anybody says, one measurement moves nobody far.
    assert math.hypot(now.x - me.x, now.y - me.y) <= 0.025 + 1e-9


@pytest.mark.parametrize("seconds", [-1e-3, math.nan, math.inf])
def test_what_is_no_measurement_moves_nobody(seconds: float) -> None:
    with pytest.raises(ValueError, match="no number of seconds"):
        updated(first("a"), first("b"), seconds)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.002, 0.2))
def test_two_servers_at_one_point_part(x: float, y: float, seconds: float) -> None:
    other = Coordinate(x, y)
    assert distance(updated(Coordinate(x, y, error=1.0), other, seconds), other) > 0


def swarm(seed: int, servers: int) -> dict[tuple[int, int], float]:
    """Return the seconds between servers at random places of a 100 ms world, each with its own."""
    draw = random.Random(seed)
    points = [(draw.uniform(0, 0.1), draw.uniform(0, 0.1)) for _ in range(servers)]
    access = [draw.uniform(0, 0.01) for _ in range(servers)]
    return {
        (one, two): math.dist(points[one], points[two]) + access[one] + access[two]
        for one, two in itertools.permutations(range(servers), 2)
    }


def learnt(ways: dict[tuple[int, int], float], servers: int, looks: int) -> list[Coordinate]:
    """Return where servers are that have looked so many times at six others each."""
    known = [first(f"s{number}") for number in range(servers)]
    for _ in range(looks):
        for me in range(servers):
            others = ((me + step) % servers for step in range(1, 7))
            known[me] = located(known[me], [(known[one], ways[me, one]) for one in others])
    return known


def errors(ways: dict[tuple[int, int], float], known: list[Coordinate]) -> list[float]:
    return [far(known[one], known[two], way) / way for (one, two), way in ways.items()]


@pytest.mark.parametrize("seed", range(5))
def test_servers_that_measure_a_few_others_know_how_far_all_are(seed: int) -> None:
    ways = swarm(seed, 16)
    known = learnt(ways, 16, 60)
    assert all(one.is_known for one in known)
    assert statistics.median(errors(ways, known)) < 0.1
    # And then they rest: nobody has anything new to say.
    later = learnt(ways, 16, 61)
    assert not any(worth_saying(*pair) for pair in zip(known, later, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_a_newcomer_finds_its_place_in_one_look(seed: int) -> None:
    ways = swarm(seed, 16)
    known = learnt(ways, 16, 60)
    new = located(first("new"), [(known[one], ways[0, one]) for one in range(1, 9)])
    assert new.is_known
    off = [far(new, known[one], ways[0, one]) / ways[0, one] for one in range(9, 16)]
    assert statistics.median(off) < 0.3


@pytest.mark.parametrize("number", range(5))
def test_newcomers_at_a_new_site_know_it_although_one_server_only_is_there(number: int) -> None:
    # The site's only server has measured nobody but one that is far away.
    far, near = 0.03, 0.0001
    there = Coordinate(-0.0185, 0.003, 0.0017, 0.11)
    one = located(first(f"one {number}"), [(there, far)])
    new = located(first(f"new {number}"), [(there, far), (one, near)])
    assert new.is_known
    assert distance(new, one) < SAME_SECONDS
    assert distance(new, there) == pytest.approx(far, rel=0.1)


def test_who_is_alone_with_newcomers_knows_nothing_at_once() -> None:
    known = located(first("a"), [(first("b"), 0.05), (first("c"), 0.05)])
    assert not known.is_known
    assert known_distance(known, Coordinate(0, 0)) is None
    assert known_distance(None, Coordinate(0, 0)) is None
    assert known_distance(Coordinate(0, 0.003), Coordinate(0.004, 0)) == pytest.approx(0.005)


@pytest.mark.parametrize("seed", range(5))
def test_a_liar_among_several_moves_nobody_out_of_the_world(seed: int) -> None:
    draw = random.Random(seed)
    ways = swarm(seed, 16)
    known = learnt(ways, 16, 60)
    me = known[0]
    for _ in range(200):
        lie = Coordinate(draw.uniform(-1, 1), draw.uniform(-1, 1), draw.uniform(0, 1), 0.0)
        me = located(me, [(lie, 0.01), *((known[one], ways[0, one]) for one in range(1, 7))])
    # Six honest ones hold it where the liar's 25 ms a look leave it.
    assert max(far(me, known[one], ways[0, one]) for one in range(1, 16)) < 0.15


def test_what_does_not_matter_is_not_said_again() -> None:
    said = Coordinate(0.03, 0.04, 0.0, 0.2)
    for near in (Coordinate(0.0345, 0.04, 0, 0.2), Coordinate(0.03, 0.04, 0.004, 0.11)):
        assert not worth_saying(said, near)
    for other in (Coordinate(0.036, 0.04, 0, 0.2), Coordinate(0.03, 0.04, 0.0, 0.1)):
        assert worth_saying(said, other)
    assert not worth_saying(Coordinate(0, 0, 0, 0.2), Coordinate(SAME_SECONDS * 0.9, 0, 0, 0.2))
    assert not first("a").is_known
    assert worth_saying(Coordinate(0, 0, 0, 0.55), Coordinate(0, 0, 0, 0.45))
    assert not worth_saying(Coordinate(0, 0, 0, 0.45), Coordinate(0, 0, 0, 0.35))


def test_a_site_of_few_servers_is_known_although_its_ways_are_next_to_nothing() -> None:
    # Three, of which two are beside each other; one of these measures the far one only.
    far, near = 0.03, 0.0001
    client, one, other = (first(name) for name in ("client", "one", "other"))
    for _ in range(12):
        one = located(one, [(other, far)])
        other = located(other, [(one, far)])
        client = located(client, [(one, near), (other, far)])
    assert client.is_known
    assert one.is_known
    assert distance(client, one) < 0.003
    assert distance(client, other) == pytest.approx(far, rel=0.1)
