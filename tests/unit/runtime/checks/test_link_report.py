"""What a link should bring, what is said where it brings less, and who is blamed for it."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checks.link_history import kept, proofs
from runtime.checks.link_report import (
    ENOUGH,
    End,
    Row,
    Verdict,
    Way,
    lines,
    most_goodput,
    report,
    worst,
)

HOSTS = ("a", "b", "c")
GOOD = End(mtu=9000, carrier=True, speed_gbps=10)
TRIPS = {"p50": 0.1, "p99": 0.3}


def way(source: str = "a", target: str = "b", **changes: Any) -> Way:
    return Way(
        id=f"{source} {target}",
        source=source,
        target=target,
        network="cable",
        source_interface="data0",
        target_interface="data0",
        source_address=f"10.0.0.{HOSTS.index(source) + 1}",
        target_address=f"10.0.0.{HOSTS.index(target) + 1}",
        **{"mtu": 9000, "speed_gbps": 10.0} | changes,
    )


def found(passes: int = 9000, gbps: float | None = 9.85, **more: Any) -> dict[str, Any]:
    tcp = {"gbps": gbps, "retransmits": 0, "cpu_here": 40.0, "cpu_there": 50.0}
    said: dict[str, Any] = {"passes": passes, "own_limit": False, "hop": None, "rtt_ms": TRIPS}
    return said | ({} if gbps is None else {"tcp": tcp}) | more


def row(
    said: dict[str, Any] | None,
    here: End = GOOD,
    there: End = GOOD,
    measured: bool = True,
    **changes: Any,
) -> Row:
    one = way(**changes)
    ends = {("a", "data0"): here, ("b", "data0"): there}
    (only,) = report([one], ends, {} if said is None else {one.id: said}, "iperf3", measured)
    return only


def test_jumbo_frames_are_worth_what_computation_says() -> None:
    assert most_goodput(10, 9000) == pytest.approx(9.900, abs=0.001)
    assert most_goodput(10, 1500) == pytest.approx(9.415, abs=0.001)
    # What proves jumbo frames cannot be reached without them.
    assert 9.8 < ENOUGH * most_goodput(10, 9000) < 9.81
    assert ENOUGH * most_goodput(10, 9000) > most_goodput(10, 1500)


@given(st.floats(0.1, 800), st.integers(1280, 65535), st.sampled_from((4, 6)))
def test_goodput_is_below_the_speed_and_grows_with_the_packet(
    speed: float, mtu: int, version: int
) -> None:
    assert 0 < most_goodput(speed, mtu, version) < speed
    assert most_goodput(speed, mtu, version) < most_goodput(speed, mtu + 1, version)


def test_a_good_link_is_good() -> None:
    good = row(found())
    assert (good.verdict, good.at_fault, good.rtt_p50_ms, good.tool) == ("ok", "", 0.1, "iperf3")
    assert worst([good]) is Verdict.OK
    assert "9.85 Gb/s of at most 9.90 (iperf3)" in lines([good])[0]


def test_what_passes_for_enough_in_guides_is_not() -> None:
    bad = row(found(gbps=9.41))
    assert (bad.verdict, bad.at_fault) == ("bad", "the path between them")
    assert "9.41 Gb/s of at least 9.80, and neither end says why" in bad.cause


@pytest.mark.parametrize(
    ("here", "there", "at_fault", "words"),
    [
        (End(mtu=1500, carrier=True), GOOD, "a", "data0 of a has MTU 1500, not 9000"),
        (GOOD, End(mtu=1500, carrier=True), "b", "data0 of b has MTU 1500, not 9000"),
        (GOOD, End(mtu=9000), "b", "data0 of b has no carrier"),
        (End(), GOOD, "a", "a has no interface data0"),
    ],
)
def test_an_end_that_is_not_as_declared_is_at_fault(
    here: End, there: End, at_fault: str, words: str
) -> None:
    bad = row(found(passes=1500), here, there)
    assert (bad.verdict, bad.at_fault) == ("bad", at_fault)
    assert words in bad.cause
    assert bad.remedy


def test_a_router_that_says_so_is_named() -> None:
    bad = row(found(passes=1500, hop={"address": "10.0.7.1", "mtu": 1500}))
    assert bad.at_fault == "10.0.7.1"
    assert "passes packets of 1500 bytes at most" in bad.cause


def test_silence_is_no_small_packet() -> None:
    bad = row(found(passes=0, gbps=None))
    assert "does not answer at all" in bad.cause


@pytest.mark.parametrize(
    ("here", "there", "tcp", "at_fault", "words"),
    [
        (GOOD, GOOD.model_copy(update={"speed_gbps": 1.0}), {}, "b", "agreed on 1 Gb/s"),
        (
            GOOD,
            GOOD.model_copy(update={"errors": {"rx_crc_errors": 7}}),
            {},
            "b",
            "rx_crc_errors 7",
        ),
        (GOOD, GOOD, {"cpu_there": 99.0}, "b", "99 % of a core of b"),
        (GOOD, GOOD, {"retransmits": 12}, "the path between them", "12 segments were lost"),
    ],
)
def test_a_slow_link_is_blamed_on_the_side_that_shows_it(
    here: End, there: End, tcp: dict[str, Any], at_fault: str, words: str
) -> None:
    said = found(gbps=0.9)
    said["tcp"] |= tcp
    bad = row(said, here, there)
    assert (bad.verdict, bad.at_fault) == ("bad", at_fault)
    assert words in bad.cause


def test_what_could_not_be_told_is_unknown() -> None:
    assert row(None).verdict is Verdict.UNKNOWN
    assert row(found(gbps=None, problem="measuring: refused")).cause == "measuring: refused"
    no_speed = End(mtu=9000, carrier=True)
    silent = row(found(), no_speed, no_speed, speed_gbps=None)
    assert "add speed_gbps to the network 'cable'" in silent.remedy
    assert worst([]) is Verdict.UNKNOWN
    # Where nobody asks for throughput, nothing is missing.
    assert row(found(gbps=None), no_speed, no_speed, False, speed_gbps=None).verdict is Verdict.OK


def test_a_port_of_a_switch_is_found_by_what_all_bad_ways_share() -> None:
    pairs = list(permutations(HOSTS, 2))
    ends = {(host, "data0"): GOOD for host in HOSTS}

    def blamed(bad: set[str]) -> dict[tuple[str, str], str]:
        said = {
            # That the others are slow is another matter.
            f"{source} {target}": found(passes=1500 if bad & {source, target} else 9000, gbps=1.0)
            for source, target in pairs
        }
        made = report([way(*pair) for pair in pairs], ends, said, "iperf3", measured=False)
        return {(one.way.source, one.way.target): one.at_fault for one in made}

    slow = "the path between them"
    assert blamed({"b"}) == {pair: "b" if "b" in pair else slow for pair in pairs}
    # Where nothing passes, nobody can tell one from another.
    assert set(blamed(set(HOSTS)).values()) == {"the path between them"}


def test_history_keeps_what_was_found_and_forgives_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "lab" / "links.jsonl"
    assert proofs(path) == ()
    first, second = kept(path, [row(found())]), kept(path, [row(found(gbps=1.0))])
    with path.open("a") as file:
        file.write('{"of": "another version"}\n')
    assert proofs(path) == (first, second)
    old = proofs(path)[0].row(way().id)
    assert old is not None
    assert old.gbps == 9.85
    assert proofs(path)[0].row("nobody") is None
