"""TCP settings follow from the links: what they need, never more than what cannot hurt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.network.buffers import (
    GUIDES,
    KERNEL_MOST,
    KEYS,
    LONG_PATH_MS,
    MOST,
    Path,
    buffer,
    in_flight,
    sysctls,
)

READ = "net.ipv4.tcp_rmem"
CONTROL = "net.ipv4.tcp_congestion_control"

speeds = st.floats(min_value=0.01, max_value=1600)
rtts = st.floats(min_value=0.001, max_value=10_000)
paths = st.builds(
    Path,
    speed_gbps=st.none() | speeds,
    rtt_ms=st.none() | rtts,
    mtu=st.none() | st.integers(1280, 65535),
)
several = st.lists(paths, max_size=4).map(tuple)


def most(found: dict[str, str]) -> int:
    return int(found.get(READ, "0").split()[-1])


def test_a_direct_cable_needs_nothing_that_the_kernel_does_not_do_by_itself() -> None:
    assert in_flight(10, 0.5) == 625_001
    assert buffer(10, 0.5) < KERNEL_MOST[READ]
    assert sysctls("computed", (Path(speed_gbps=10, rtt_ms=0.5, mtu=1500),)) == {}


def test_an_ocean_gets_what_the_guides_give_everybody() -> None:
    found = sysctls("computed", (Path(speed_gbps=10, rtt_ms=50, mtu=1500),))
    assert found[READ].split()[-1] == "134217728"
    assert (found[CONTROL], found["net.core.default_qdisc"]) == ("bbr", "fq")


def test_the_guides_values_are_a_profile() -> None:
    path = Path(speed_gbps=10, rtt_ms=0.1, mtu=9000)
    assert sysctls("guides", (path,)) == GUIDES
    assert sysctls("guides", ()) == sysctls("none", (path,)) == {}


@given(speeds, rtts)
def test_a_buffer_holds_a_round_trip_and_its_bookkeeping(speed: float, rtt: float) -> None:
    found = buffer(speed, rtt)
    assert found & (found - 1) == 0
    assert found >= min(MOST, 2 * in_flight(speed, rtt))
    assert found <= max(4, min(MOST, 4 * in_flight(speed, rtt)))


@given(several)
def test_only_known_keys_are_set_and_no_buffer_is_absurd(found: tuple[Path, ...]) -> None:
    made = sysctls("computed", found)
    assert made.keys() <= set(KEYS)
    assert most(made) <= MOST
    assert most(made) == 0 or most(made) > KERNEL_MOST[READ]
    # One is not chosen without the other.
    assert (CONTROL in made) == ("net.core.default_qdisc" in made)


@given(several, paths)
def test_one_more_link_never_takes_anything_away(found: tuple[Path, ...], more: Path) -> None:
    before, after = sysctls("computed", found), sysctls("computed", (*found, more))
    assert before.keys() <= after.keys()
    assert most(before) <= most(after)


@given(several)
def test_a_second_run_with_the_same_paths_changes_nothing(found: tuple[Path, ...]) -> None:
    made = sysctls("computed", found)
    assert sysctls("computed", found, made) == made


@given(speeds, rtts, st.floats(min_value=0.6, max_value=1.0))
def test_a_round_trip_that_varies_changes_nothing(speed: float, rtt: float, share: float) -> None:
    made = sysctls("computed", (Path(speed_gbps=speed, rtt_ms=rtt, mtu=9000),))
    again = Path(speed_gbps=speed, rtt_ms=rtt * share, mtu=9000)
    assert sysctls("computed", (again,), made) == made


@given(speeds, rtts)
def test_a_neighbour_that_is_off_changes_nothing(speed: float, rtt: float) -> None:
    made = sysctls("computed", (Path(speed_gbps=speed, rtt_ms=rtt, mtu=9000),))
    silent = Path(speed_gbps=speed, rtt_ms=None, mtu=9000)
    assert sysctls("computed", (silent,), made) == made


@pytest.mark.parametrize(("rtt", "chosen"), [(LONG_PATH_MS, True), (LONG_PATH_MS - 0.1, False)])
def test_bbr_is_for_long_paths_only(rtt: float, chosen: bool) -> None:
    found = sysctls("computed", (Path(speed_gbps=1, rtt_ms=rtt, mtu=None),))
    assert (CONTROL in found) is chosen
