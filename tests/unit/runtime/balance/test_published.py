import numpy as np

from runtime.balance.published import published_should_move, published_start
from runtime.balance.snapshot import Placed, Snapshot


def test_the_weakest_window_is_chosen_by_its_weakest_blocks() -> None:
    assert published_start(np.array([3.0, 1.0, 2.0, 1.0, 5.0]), 2) == 1
    assert published_start(np.array([0.0, 0.0, 0.0]), 2) == 0
    # Equal weakest blocks: the second weakest decides.
    assert published_start(np.array([1.0, 9.0, 1.0, 2.0]), 2) == 2


def test_it_leaves_a_crowd_for_a_weak_block_and_not_for_a_little() -> None:
    crowd = [Placed(name, 0, 4, 1) for name in "abc"]
    assert published_should_move(Snapshot.of(8, [*crowd, Placed("d", 4, 8, 1)]), "a", 0.75, 1)
    pair = [Placed(name, 4, 8, 1) for name in "de"]
    assert not published_should_move(Snapshot.of(8, [*crowd, *pair]), "a", 0.75, 1)


def test_it_never_splits_the_swarm_and_above_one_always_moves() -> None:
    alone = Snapshot.of(8, [Placed("a", 0, 4, 1), Placed("b", 4, 8, 1)])
    assert not published_should_move(alone, "a", 0.75, 1)
    assert published_should_move(alone, "a", 1.1, 1)
