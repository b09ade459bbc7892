import pytest

from runtime.client.attempts import PAUSE_SECONDS, Attempts
from runtime.errors import MovedError, PeerLostError, ServerFullError, SessionError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_failure_may_be_of_old_news_and_costs_no_wait() -> None:
    attempts = Attempts(30, Clock())
    assert attempts.pause(["a"]) == 0
    attempts.add(PeerLostError("gone", peer_id="a"))
    assert attempts.pause(["a", "b"]) == 0
    assert (attempts.count, attempts.peer_ids) == (1, {"a"})


def test_a_server_that_is_lost_is_waited_for_until_patience_ends_unless_there_is_another() -> None:
    clock = Clock()
    attempts = Attempts(30, clock)
    lost = PeerLostError("gone", peer_id="a")
    for _ in range(20):
        attempts.add(lost)
        clock.now += 1
    assert attempts.pause(["a", "b"]) == PAUSE_SECONDS
    assert attempts.pause(["c", "b"]) == 0
    clock.now += 10
    with pytest.raises(PeerLostError, match="gone"):
        attempts.pause(["a", "b"])
    assert attempts.pause(["c", "b"]) == 0


@pytest.mark.parametrize("kind", [ServerFullError, MovedError])
def test_a_server_that_refuses_is_not_waited_for(kind: type[SessionError]) -> None:
    attempts = Attempts(30, Clock())
    attempts.add(PeerLostError("gone", peer_id="b"))
    attempts.add(kind("no", peer_id="a"))
    with pytest.raises(kind, match="no"):
        attempts.pause(["a", "b"])
    # Lost at first, it answers now.
    attempts.add(kind("no", peer_id="b"))
    with pytest.raises(kind, match="no"):
        attempts.pause(["b"])


def test_four_refusals_are_enough_and_so_is_what_is_not_the_fault_of_one_server() -> None:
    attempts = Attempts(30, Clock())
    attempts.add(PeerLostError("discovery"))
    attempts.add(ServerFullError("full", peer_id="a"))
    attempts.add(ServerFullError("full", peer_id="b"))
    with pytest.raises(MovedError, match="elsewhere"):
        attempts.add(MovedError("elsewhere", peer_id="c"))
