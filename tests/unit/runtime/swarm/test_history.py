import itertools

from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.base import Span
from runtime.swarm.history import History, events
from runtime.swarm.records import Seating, ServerInfo
from runtime.swarm.report import MOST_EVENTS, Event
from tests.support.records import info

BLOCKS = 8
WHOLE = Span(start=0, end=BLOCKS)


def seat(
    start: int,
    end: int,
    state: str = "online",
    target: tuple[int, int] | None = None,
    reason: str = "",
    **fields: object,
) -> ServerInfo:
    seating = Seating(num_blocks=4, target=target, reason=reason)
    return info(**{"start": start, "end": end, "state": state, "seating": seating} | fields)


def told(*looks: ServerInfo | None) -> list[str]:
    """Return what is told of one server from look to look."""
    found: list[Event] = []
    for before, after in itertools.pairwise(looks):
        found += events([before] if before else [], [after] if after else [], at=5.0)
    assert {(event.peer_id, event.at) for event in found} <= {("QmA", 5.0)}
    return [str(event) for event in found]


def test_a_server_that_joins() -> None:
    steps = [
        None,
        seat(0, 0, "reserving"),
        seat(0, 4, "reserving"),
        seat(0, 4, "joining", reason="nobody serves 4 of these blocks"),
        seat(0, 4, reason="nobody serves 4 of these blocks"),
    ]
    assert told(*steps) == [
        "came, with blocks [0, 0)",
        "takes blocks [0, 4): nobody serves 4 of these blocks",
        "serves blocks [0, 4): nobody serves 4 of these blocks",
    ]


def test_a_server_that_moves_and_says_why() -> None:
    steps = [
        seat(0, 4),
        seat(0, 4, "draining", (4, 8), reason="it pays for itself in 9 s"),
        seat(4, 8, "joining", reason="it pays for itself in 9 s"),
        seat(4, 8, reason="it pays for itself in 9 s"),
    ]
    assert told(*steps) == [
        "moves from blocks [0, 4) to [4, 8): it pays for itself in 9 s",
        "serves blocks [4, 8): it pays for itself in 9 s",
    ]


def test_a_server_that_serves_the_old_blocks_until_it_has_the_new_ones() -> None:
    assert told(seat(0, 4), seat(0, 4, "online", (4, 8)), seat(4, 8)) == [
        "moves from blocks [0, 4) to [4, 8)",
        "serves blocks [4, 8)",
    ]


def test_a_move_of_which_only_the_end_was_seen() -> None:
    assert told(seat(0, 4), seat(4, 8, reason="why")) == [
        "moves from blocks [0, 4) to [4, 8): why",
        "serves blocks [4, 8): why",
    ]


def test_a_server_that_stays_after_all() -> None:
    assert told(seat(0, 4, "draining", (4, 8)), seat(0, 4, reason="the gain has vanished")) == [
        "stays at blocks [0, 4) after all: the gain has vanished"
    ]


def test_a_server_that_leaves_goes_and_comes_back() -> None:
    gone = [
        info(start=0, end=4),
        info(start=0, end=4, state="draining"),
        None,
        info(start=0, end=4),
    ]
    assert told(*gone) == [
        "is about to leave blocks [0, 4)",
        "went; it had blocks [0, 4)",
        "came, with blocks [0, 4)",
    ]


def test_a_server_that_has_been_restarted() -> None:
    assert told(seat(0, 4, run="a"), seat(0, 0, "reserving", run="b")) == [
        "started anew, with blocks [0, 0)"
    ]


def test_renewals_and_measurements_are_no_events() -> None:
    later = seat(0, 4, reason="no move would help", throughput=99.0)
    assert told(seat(0, 4), later, seat(0, 4)) == []


def test_a_gap_is_told_when_it_opens_and_how_long_it_lasted() -> None:
    history = History(WHOLE)
    first, second = seat(0, 4, peer_id="QmA"), seat(4, 8, peer_id="QmB")
    assert history.take((first, second), 10) == ()
    (went, gap) = history.take((first,), 20)
    assert (went.kind, str(gap)) == ("went", "nobody serves blocks [4, 8)")
    assert history.take((first,), 30) == ()
    history.take((first, seat(4, 6, peer_id="QmB")), 35)
    history.take((first, seat(4, 8, peer_id="QmB")), 50)
    covered = [event for event in history.events if event.kind == "covered"]
    assert [(str(event.blocks), event.seconds) for event in covered] == [
        ("[4, 6)", 15),
        ("[6, 8)", 30),
    ]


def test_nobody_comes_at_the_first_look() -> None:
    assert History(WHOLE).take((seat(0, 8),), 1) == ()


servers = st.builds(
    lambda name, start, length, state, target, run: seat(
        start,
        min(start + length, BLOCKS),
        state,
        target,
        peer_id=name,
        run=run,
    ),
    st.sampled_from("abc"),
    st.integers(0, BLOCKS),
    st.integers(0, 4),
    st.sampled_from(["reserving", "joining", "online", "draining"]),
    st.sampled_from([None, (0, 4), (4, 8)]),
    st.sampled_from(["", "1"]),
)
looks = st.lists(
    st.lists(servers, max_size=3, unique_by=lambda one: one.peer_id).map(tuple), max_size=6
)


@given(looks)
def test_what_is_told_adds_up_to_what_is_seen(seen: list[tuple[ServerInfo, ...]]) -> None:
    history = History(WHOLE)
    here = {server.peer_id for server in seen[0]} if seen else set()
    missing: set[int] = set()
    for number, look in enumerate(seen):
        for event in history.take(look, float(number)):
            blocks = range(event.blocks.start, event.blocks.end)
            if event.kind == "came":
                assert event.peer_id not in here
                here.add(event.peer_id)
            elif event.kind == "went":
                here.remove(event.peer_id)
            elif event.kind == "gap":
                assert missing.isdisjoint(blocks)
                missing.update(blocks)
            elif event.kind == "covered":
                assert missing.issuperset(blocks)
                missing.difference_update(blocks)
            else:
                assert event.peer_id in here
        online = [one for one in look if one.state == "online"]
        assert here == {one.peer_id for one in look}
        assert missing == {
            block
            for block in range(BLOCKS)
            if not any(one.start <= block < one.end for one in online)
        }
        assert history.take(look, float(number)) == ()


def test_what_is_kept_is_bounded() -> None:
    history = History(WHOLE)
    for number in range(MOST_EVENTS):
        history.take((seat(0, 8),), number)
        history.take((), number)
    assert len(history.events) == MOST_EVENTS
