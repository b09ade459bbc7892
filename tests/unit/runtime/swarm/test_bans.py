from runtime.swarm.bans import FIRST_SECONDS, LONGEST_SECONDS, Bans


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def banned_for(bans: Bans, clock: Clock, peer_id: str) -> float:
    """Return how long a peer is still banned, to the second, after letting that time pass."""
    started = clock.now
    while peer_id in bans.banned():
        clock.now += 1
    return clock.now - started


def test_a_ban_doubles_with_each_failure_up_to_a_limit() -> None:
    clock = Clock()
    bans = Bans(clock)
    found = []
    for _ in range(7):
        bans.blame("a")
        found.append(banned_for(bans, clock, "a"))
    assert found == [15, 30, 60, 120, 240, 300, 300]
    assert (FIRST_SECONDS, LONGEST_SECONDS) == (15, 300)


def test_one_failure_seen_by_many_sessions_counts_once() -> None:
    clock = Clock()
    bans = Bans(clock)
    for _ in range(5):
        bans.blame("a")
        clock.now += 1
    assert banned_for(bans, clock, "a") == 10


def test_success_forgives() -> None:
    clock = Clock()
    bans = Bans(clock)
    bans.blame("a")
    bans.blame("b")
    bans.forgive("a")
    bans.forgive("nobody")
    assert bans.banned() == {"b"}
    bans.blame("a")
    assert banned_for(bans, clock, "a") == 15


def test_what_is_long_past_does_not_count() -> None:
    clock = Clock()
    bans = Bans(clock)
    bans.blame("a")
    clock.now += 15 + LONGEST_SECONDS
    assert bans.banned() == frozenset()
    bans.blame("a")
    assert banned_for(bans, clock, "a") == 15
