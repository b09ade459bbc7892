import itertools
import random

import numpy as np
import pytest

from runtime.balance.coordinate import Coordinate
from runtime.balance.path import UNKNOWN_LATENCY_SECONDS, Costs, cheapest, points, way


def where(draw: random.Random) -> Coordinate | None:
    at = Coordinate(draw.uniform(0, 0.1), draw.uniform(0, 0.1), draw.uniform(0, 0.01))
    return draw.choice([None, at, at, at])


@pytest.mark.parametrize("servers", [3, 90])
@pytest.mark.parametrize("seed", range(4))
def test_no_way_through_is_faster(seed: int, servers: int) -> None:
    """With 90 servers there are so many pairs that those that cannot be the best are left out."""
    draw = random.Random(seed)
    at = [where(draw) for _ in range(servers)]
    block, enter, onto, leave = (
        np.array([draw.uniform(0, most) for _ in range(servers)]) for most in (0.02, 0.1, 0.01, 0.1)
    )
    able = [sorted(draw.sample(range(servers), draw.randint(2, servers))) for _ in range(5)]
    found, path = cheapest(
        Costs(block, enter, onto, leave, points(at)),
        list(map(np.array, able)),
    )

    def switch(one: int, other: int) -> float:
        return 0.0 if one == other else onto[other] + way(at[one], at[other])

    best = {server: enter[server] + block[server] for server in able[0]}
    for here in able[1:]:
        best = {two: min(best[one] + switch(one, two) for one in best) + block[two] for two in here}
    least = min(seconds + leave[server] for server, seconds in best.items())
    assert found == pytest.approx(least, rel=1e-12)
    assert all(server in here for server, here in zip(path, able, strict=True))
    took = enter[path[0]] + leave[path[-1]] + sum(block[server] for server in path)
    assert took + sum(itertools.starmap(switch, itertools.pairwise(path))) == pytest.approx(found)


def test_a_way_that_nobody_knows_is_a_local_networks() -> None:
    here = Coordinate(0, 0, 0.001)
    assert way(here, Coordinate(0.01, 0)) == pytest.approx(0.011)
    for other in (None, Coordinate(0.01, 0, error=0.9)):
        assert way(here, other) == way(other, here) == UNKNOWN_LATENCY_SECONDS
