from dataclasses import replace

import pytest

from runtime.balance.capacity import capacity
from runtime.balance.coordinate import Coordinate
from runtime.balance.member import Manner
from runtime.balance.simulation.measure import Result
from runtime.balance.simulation.ways import RouteTime, at_sites
from runtime.balance.simulation.workload import Workload, churn, start_together
from runtime.balance.simulation.world import World
from runtime.balance.snapshot import Placed, Snapshot

HERE, THERE = Coordinate(0, 0, 0.0001), Coordinate(0.05, 0, 0.0001)
BLOCKS = 32


def run(workload: Workload, seed: int) -> tuple[Result, Snapshot, float]:
    """Return what is measured, who serves in the end, and the seconds of the fastest route then."""
    world = World(workload, Manner(BLOCKS), seed, published=False)
    result = world.run()
    time = RouteTime(workload)
    time.watch(0, world.serving)
    return result, world.serving, time.mean(1)


@pytest.mark.parametrize("servers", [8, 12])
def test_servers_of_two_sites_that_start_together_are_as_even_and_routes_are_shorter(
    servers: int,
) -> None:
    found: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(6):
        workload = at_sites(start_together(servers, BLOCKS, 8, seed), [HERE, THERE], seed)
        here = sum(life.coordinate == HERE for life in workload.lives)
        for known, seconds in found.items():
            result, serving, took = run(replace(workload, places_are_known=known), seed)
            seconds.append(took)
            assert (result.broken, result.moves) == ((), 0)
            assert set(serving.replicas) == {servers // 4}
            assert capacity(serving) == pytest.approx(servers / 4)
            if known and here >= 4:
                # Four seconds of computing, and five hops at the client side's site.
                assert took == pytest.approx(4 + 5 * (0.0008 + 0.0002))
    assert all(mine <= theirs for mine, theirs in zip(*found.values(), strict=True))
    assert sum(found[True]) < sum(found[False])


def test_no_rule_is_broken_for_it_while_servers_come_and_go() -> None:
    workload = at_sites(churn(8, BLOCKS, 900, 30, 1800, 3), [HERE, THERE], 3)
    assert run(workload, 3)[0].broken == ()


def test_where_sites_do_not_matter_nothing_changes() -> None:
    plain = churn(6, BLOCKS, 900, 30, 1800, 5)
    beside = [Coordinate(0, 0, 0.0001), Coordinate(0, 0.0001, 0.0001)]
    silent = replace(at_sites(plain, beside, 5), places_are_known=False)
    found = [run(one, 5)[:2] for one in (plain, silent)]
    assert found[0] == found[1]
    # Nor in one room, where everybody is near everybody.
    near, serving, _ = run(at_sites(plain, beside, 5), 5)
    assert near == found[0][0]
    blind = (replace(server, coordinate=None) for server in serving.servers)
    assert Snapshot.of(BLOCKS, blind) == found[0][1]


def test_the_mean_time_of_routes_counts_while_there_is_one() -> None:
    workload = at_sites(start_together(2, 8, 4, 0), [HERE], 0)
    first, second = (life.peer_id for life in workload.lives)
    time = RouteTime(workload)
    half = Snapshot.of(8, [Placed(first, 0, 4, 1)])
    whole = half.with_server(Placed(second, 4, 8, 1))
    faster = whole.with_server(Placed(second, 4, 8, 2))
    for at, serving in ((0, half), (10, whole), (20, half), (30, faster)):
        time.watch(at, serving)
    hops = 3 * (0.0008 + 0.0002)
    assert time.mean(40) == pytest.approx((2 + 1.5) / 2 + hops)
