from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runtime.balance.coordinate import Coordinate
from runtime.balance.placement import choose_best_blocks
from runtime.balance.reservation import line_before, ticket
from runtime.balance.seat import Seat, snapshot_of
from runtime.balance.snapshot import Placed, Snapshot
from tests.support.balance import coordinates


def reserving(name: str, number: int, num_blocks: int = 4) -> Seat:
    return Seat(name, "reserving", 0, 0, num_blocks, 1, ticket=number)


def chosen(me: Seat, others: list[Seat]) -> tuple[int, int]:
    return line_before(8, me, others).chosen(me)


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.none() | coordinates(most_error=0.6)),
        min_size=1,
        max_size=8,
    )
)
def test_everybody_who_sees_the_same_ends_as_if_one_after_the_other(
    servers: list[tuple[int, Coordinate | None]],
) -> None:
    seats = [
        replace(reserving(f"s{n}", 1, num_blocks), coordinate=where)
        for n, (num_blocks, where) in enumerate(servers)
    ]
    one_by_one = Snapshot.of(8, [])
    for seat in seats:
        where = seat.coordinate
        choice = choose_best_blocks(one_by_one, seat.peer_id, seat.num_blocks, 1, where)
        placed = Placed(seat.peer_id, choice.start, choice.end, 1, coordinate=where)
        one_by_one = one_by_one.with_server(placed)
    for seat in seats:
        others = [other for other in seats if other is not seat]
        (placed,) = (each for each in one_by_one.servers if each.peer_id == seat.peer_id)
        assert chosen(seat, others) == (placed.start, placed.end)


def test_a_larger_ticket_is_not_reckoned_with() -> None:
    later = Seat("a", "joining", 0, 4, 4, 1, ticket=2)
    assert chosen(reserving("b", 1), [later])[0] == 0
    assert chosen(reserving("b", 3), [later])[0] == 4


def test_who_serves_or_moves_counts_whatever_its_ticket() -> None:
    serves = Seat("a", "online", 0, 4, 4, 1, ticket=9)
    moves = Seat("a", "joining", 0, 4, 4, 1, ticket=9, claim=1)
    for other in (serves, moves):
        assert chosen(reserving("b", 1), [other])[0] == 4


def test_who_serves_before_those_ahead_of_it_have_chosen_counts_by_its_ticket() -> None:
    # It has reckoned with them: whoever now reckoned with it would choose otherwise than foreseen.
    serves = Seat("b", "online", 0, 4, 4, 1, ticket=2, in_line=True)
    assert chosen(reserving("a", 1), [serves])[0] == 0
    assert chosen(reserving("c", 2), [serves])[0] == 4
    # The one between them foresees the first one's choice without it, too.
    assert chosen(reserving("c", 2, 8), [reserving("a", 1), serves]) == (0, 8)
    line = line_before(8, reserving("c", 2), [reserving("a", 1), serves])
    assert line.before is not None
    assert line.before.last is not None
    assert (line.before.last.peer_id, line.before.last.start) == ("a", 0)
    moves = Seat("b", "online", 0, 4, 4, 1, ticket=2, in_line=True, claim=1)
    assert chosen(reserving("a", 1), [moves])[0] == 4


def test_a_ticket_is_behind_all_that_are_seen() -> None:
    assert ticket([]) == 1
    assert ticket([reserving("a", 4), reserving("b", 2)]) == 5


def test_who_asks_for_more_blocks_than_there_are_holds_nobody_up() -> None:
    assert chosen(reserving("b", 2), [reserving("a", 1, num_blocks=99)])[0] == 0


def test_those_who_move_count_where_they_go() -> None:
    moves = Seat("a", "draining", 0, 4, 4, 1, ticket=1, target=(4, 8), claim=1)
    assert snapshot_of(8, [moves]).holes == (0, 1, 2, 3)


NEAR, FAR = Coordinate(0, 0), Coordinate(0.05, 0)


def test_the_first_block_is_behind_the_client_side_and_the_last_one_before_it() -> None:
    client = Seat("c", "online", 0, 0, 0, 0, ticket=0, fixed=True, coordinate=NEAR, client=True)
    other = Seat("o", "online", 0, 2, 2, 1, ticket=0, coordinate=FAR)
    assert snapshot_of(8, [client, other]).servers == (other.placed,)
    near, far = (replace(reserving("n", 1, 2), coordinate=where) for where in (NEAR, FAR))
    assert [chosen(me, [other, client]) for me in (near, far)] == [(6, 8), (2, 4)]
    # With blocks of its own it is both; who is far keeps away from both.
    first = Seat("c", "online", 0, 2, 2, 1, ticket=0, fixed=True, coordinate=NEAR, client=True)
    assert [chosen(me, [first]) for me in (near, far)] == [(2, 4), (4, 6)]
