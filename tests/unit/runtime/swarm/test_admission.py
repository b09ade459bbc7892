import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.swarm.admission import SKEW_SECONDS, Entry, Renewals, Twins, admitted, strangers
from runtime.swarm.records import Presence, ServerInfo, encode
from tests.support.records import info

DIGEST, BLOCKS = "d", 30


def entries(**records: ServerInfo | Presence | bytes) -> dict[str, Entry]:
    return {
        peer_id: Entry(record if isinstance(record, bytes) else encode(record), 100.0)
        for peer_id, record in records.items()
    }


def server(peer_id: str, **fields: object) -> ServerInfo:
    return info(**{"peer_id": peer_id} | fields)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"noise", "cannot be read"),
        (server("bad", throughput=float("nan")), "cannot be read"),
        (server("bad", throughput=-1.0), "cannot be read"),
        (server("good"), "speaks for good"),
        (server("bad", model_digest="f" * 64), "is of model ffffffffffff"),
        # Spans beyond the model would be out of every table that placement keeps.
        (server("bad", start=40, end=50, total_blocks=60), "60 blocks; it has 30"),
        (server("bad", start=9, end=8), "blocks [9, 8) of 30"),
    ],
)
def test_a_record_that_does_not_count_is_named_with_its_reason(
    bad: ServerInfo | bytes, said: str
) -> None:
    good = server("good")
    found = admitted(entries(good=good, bad=bad), DIGEST, BLOCKS)
    assert found.servers == (good,)
    (remark,) = found.remarks
    assert remark.peer_id == "bad"
    assert said in remark.problem
    assert remark.hint


def test_an_absurd_throughput_is_bounded_and_said() -> None:
    records = {name: server(name, throughput=10.0) for name in "abc"}
    found = admitted(entries(**records, liar=server("liar", throughput=1e6)), DIGEST, BLOCKS)
    assert [one.throughput for one in found.servers] == [10.0, 10.0, 10.0, 1000.0]
    (remark,) = found.remarks
    assert remark.problem.startswith("it says 1e+06 steps/s; 1000 are believed")


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=80), max_size=5))
def test_whatever_is_in_the_directory_is_judged(noise: dict[str, bytes]) -> None:
    found = {peer_id: Entry(value, 0.0) for peer_id, value in noise.items()}
    assert admitted(found, DIGEST, BLOCKS).servers == ()
    assert len(admitted(found, DIGEST, BLOCKS).remarks) == len(noise)
    assert len(strangers(found, DIGEST)) == len(noise)


def test_both_sides_learn_of_servers_with_another_model() -> None:
    roll = entries(
        a=Presence("a", "a" * 64, "1.0"), b=Presence("b", "b" * 64, "1.0"), noise=b"noise"
    )
    seen_by_a, of_noise = strangers(roll, "a" * 64)
    assert (seen_by_a.peer_id, of_noise.peer_id) == ("b", "noise")
    assert "another model, bbbbbbbbbbbb, this server aaaaaaaaaaaa" in seen_by_a.problem
    assert "stagefleet model show" in seen_by_a.hint
    assert [remark.peer_id for remark in strangers(roll, "b" * 64)] == ["a", "noise"]


LIFETIME = 30.0


def alive(renewals: Renewals, now: float, **expires: float) -> set[str]:
    found = {peer_id: Entry(b"", until) for peer_id, until in expires.items()}
    return set(renewals.alive(found, now))


@pytest.mark.parametrize("ahead", [0.0, 120.0, 3000.0])
def test_a_record_counts_as_long_as_its_author_renews_it(ahead: float) -> None:
    renewals = Renewals(LIFETIME)
    for period in range(20):
        now = 10.0 * period
        assert alive(renewals, now, server=now + LIFETIME + ahead) == {"server"}
    last = 10.0 * 19
    for seconds in (10, 20, 30):
        assert alive(renewals, last + seconds, server=last + LIFETIME + ahead) == {"server"}
    after = last + LIFETIME + SKEW_SECONDS + 1
    assert alive(renewals, after, server=last + LIFETIME + ahead) == set()
    # It is alive again as soon as it says something.
    assert alive(renewals, after + 1, server=after + LIFETIME + ahead) == {"server"}


def test_an_older_copy_of_a_record_is_no_renewal() -> None:
    renewals = Renewals(LIFETIME)
    for now in range(0, 34, 2):
        assert alive(renewals, now, server=1000.0 - now % 4) == {"server"}
    assert alive(renewals, 40, server=999.0) == set()


def test_who_was_not_looked_at_for_long_gets_its_time() -> None:
    renewals = Renewals(LIFETIME)
    assert alive(renewals, 0, a=30.0) == {"a"}
    assert alive(renewals, 5) == set()
    assert alive(renewals, 500, a=530.0, b=530.0) == {"a", "b"}


def twice(twins: Twins, now: float, run: str, expires: float) -> bool:
    known = server("a", run=run)
    remarks = twins.seen([known], {"a": Entry(encode(known), expires)}, now)
    assert all("two processes" in remark.problem for remark in remarks)
    return bool(remarks)


def test_two_runs_that_take_turns_are_two_processes() -> None:
    twins = Twins(LIFETIME)
    assert not twice(twins, 0, "first", 30)
    assert not twice(twins, 5, "second", 35)
    assert twice(twins, 10, "first", 40)
    assert twice(twins, 12, "first", 40)
    assert twice(twins, 15, "second", 45)
    # One of them has been stopped.
    assert twice(twins, 44, "second", 74)
    assert not twice(twins, 46, "second", 76)


def test_a_server_that_is_restarted_again_and_again_is_one() -> None:
    twins = Twins(LIFETIME)
    for number in range(20):
        assert not twice(twins, number, f"run{number}", number + 30)
    # And an old copy of its record says nothing new.
    assert not twice(twins, 20, "run18", 48)


def test_a_name_that_was_not_seen_for_a_while_begins_anew() -> None:
    twins = Twins(LIFETIME)
    twice(twins, 0, "first", 30)
    twice(twins, 5, "second", 35)
    assert twins.seen([], {}, 50) == ()
    assert not twice(twins, 60, "first", 90)
