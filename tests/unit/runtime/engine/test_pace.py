"""What a server says of its speed, whatever it is asked for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.pace import STALE_SECONDS, STEADY, Pace, Rates, steady

BLOCKS = 8
RATES = Rates(step_seconds=0.010, head_seconds=0.004, batch=4, batch_seconds=0.016, prefill=500)
SECOND = 1_000_000_000


class Clocked:
    """A pace, and the clock of a server that does nothing but serve."""

    def __init__(self, rates: Rates = RATES) -> None:
        self.now = 0
        self.pace = Pace(rates, BLOCKS, self.now)

    def serve(
        self, seconds: float, batch: int = 1, blocks: int = BLOCKS, head: bool = True
    ) -> None:
        """Serve one step that takes so long."""
        duration = int(seconds * SECOND)
        self.now += duration
        self.pace.saw(blocks, batch, duration, self.now, head=head)


kinds = st.tuples(st.integers(1, 8), st.integers(1, BLOCKS), st.booleans())


def seconds_of(batch: int, blocks: int, head: bool) -> float:
    """Return what a step takes on the server of `RATES`."""
    return (0.010 * blocks / BLOCKS + 0.004 * head) * (1 + (batch - 1) * 0.2)


def test_rates_say_what_a_server_could_serve() -> None:
    assert RATES.throughput == pytest.approx(1 / 0.014)
    assert RATES.batch_decode == pytest.approx(4 / 0.016)
    assert RATES.sequence_share == pytest.approx(0.2)
    assert Rates(0.01).batch_decode == Rates(0.01).throughput == pytest.approx(100)


@given(st.lists(kinds, min_size=1, max_size=200), st.floats(0.02, 50))
def test_whatever_it_serves_it_says_how_fast_it_is(
    served: list[tuple[int, int, bool]], slower: float
) -> None:
    clocked = Clocked()
    for kind in served:
        clocked.serve(slower * seconds_of(*kind), *kind)
    clocked.pace.settle(clocked.now)
    # Between what it said and what is true, and never beyond.
    low, high = sorted((1.0, 1 / slower))
    share = clocked.pace.throughput / RATES.throughput
    assert low * (1 - 1e-6) <= share <= high * (1 + 1e-6)


@pytest.mark.parametrize("step", [0.002, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_a_server_that_becomes_slower_or_faster_says_so_within_three_periods(
    step: float, factor: float
) -> None:
    clocked = Clocked(Rates(step))
    while clocked.now < 5 * SECOND:
        clocked.serve(step, head=False)
    assert clocked.pace.throughput == pytest.approx(1 / step)
    changed, seconds = clocked.now, max(30.0, 8 * step * factor)
    while clocked.now < changed + seconds * SECOND:
        clocked.serve(step * factor, head=False)
    # Of a fivefold change it knows four fifths.
    assert abs(math.log(clocked.pace.throughput * step)) > math.log(4)


@given(
    st.lists(st.floats(1, 2), min_size=23, max_size=23),
    st.permutations(range(32)),
)
def test_what_disturbs_some_steps_does_not_count(disturbed: list[float], order: list[int]) -> None:
    clocked = Clocked()
    factors = [1.0] * 9 + disturbed
    for index in order:
        clocked.serve(factors[index] * seconds_of(1, BLOCKS, True))
    clocked.pace.settle(clocked.now)
    assert clocked.pace.throughput == pytest.approx(RATES.throughput)


@given(st.floats(0.1, 20), st.integers(1, 20))
def test_no_single_window_decides(slower: float, idle_seconds: int) -> None:
    clocked = Clocked()
    clocked.now += idle_seconds * SECOND
    clocked.serve(slower * 0.014)
    clocked.pace.settle(clocked.now)
    change = math.log(RATES.throughput / clocked.pace.throughput)
    assert abs(change) <= abs(math.log(slower)) / 2 + 1e-6


def test_sessions_without_a_block_here_say_nothing() -> None:
    clocked = Clocked()
    for _ in range(100):
        clocked.serve(5, blocks=0)
    clocked.pace.settle(clocked.now)
    assert clocked.pace.throughput == pytest.approx(RATES.throughput)


def test_it_is_stale_once_nothing_has_been_learnt_for_long() -> None:
    clocked = Clocked()
    later = int(STALE_SECONDS * SECOND)
    assert not clocked.pace.is_stale(later - 1)
    assert clocked.pace.is_stale(later)
    clocked.serve(0.014)
    clocked.pace.settle(later)
    assert not clocked.pace.is_stale(later + SECOND)


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_only_a_change_of_some_percent_is_said(said: float, measured: float) -> None:
    found = steady(said, measured)
    assert found in {said, measured}
    assert (found == said) == (abs(measured - said) <= STEADY * said)


def test_the_first_measurement_is_said_as_it_is() -> None:
    assert steady(0.0, 12.3) == 12.3
