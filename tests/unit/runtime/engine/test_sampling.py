"""Sampling: the same tokens wherever they are drawn, and as likely as they should be."""

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.options import MAX_SEED, Sampling
from runtime.engine.sampling import sample, validate
from runtime.errors import RequestError, SessionError

LOGITS = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 2


def tokens(logits: torch.Tensor, sampling: Sampling, draws: int) -> list[int]:
    """Return the tokens of one row at many positions."""
    return [sample(logits, sampling, [position])[0] for position in range(draws)]


def test_zero_temperature_takes_the_likeliest() -> None:
    assert sample(LOGITS, Sampling(seed=5, top_k=3), [1, 2, 3, 4]) == LOGITS.argmax(-1).tolist()


@given(
    seed=st.integers(0, MAX_SEED),
    positions=st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
    rows=st.permutations(range(4)),
)
def test_a_token_depends_on_its_own_row_and_position_only(
    seed: int, positions: list[int], rows: list[int]
) -> None:
    sampling = Sampling(temperature=1.0, top_k=40, top_p=0.95, seed=seed)
    together = sample(LOGITS, sampling, positions)
    assert together == sample(LOGITS, sampling, positions)
    order = torch.tensor(rows)
    shuffled = sample(LOGITS[order], sampling, [positions[row] for row in rows], rows)
    assert shuffled == [together[row] for row in rows]
    for row in range(4):
        alone = sample(LOGITS[row : row + 1], sampling, positions[row : row + 1], [row])
        assert alone == together[row : row + 1]


def test_seed_row_and_position_each_change_the_draws() -> None:
    flat = torch.zeros(1, 1000)
    sampling = Sampling(temperature=1.0, seed=1)
    base = tokens(flat, sampling, 50)
    assert len(set(base)) > 40
    assert tokens(flat, Sampling(temperature=1.0, seed=2), 50) != base
    assert [sample(flat, sampling, [position], [1])[0] for position in range(50)] != base
    # The high half of the seed counts too.
    assert tokens(flat, Sampling(temperature=1.0, seed=1 + 2**32), 50) != base


def test_a_known_draw_stays_the_same() -> None:
    """Sessions move between releases: this list must never change."""
    logits = torch.arange(50.0).view(1, 50) / 10
    assert tokens(logits, Sampling(temperature=1.0, seed=42), 8) == [29, 36, 24, 49, 47, 49, 44, 36]


def test_tokens_come_as_often_as_they_are_likely() -> None:
    draws = 4000
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    found = tokens(probabilities.log().unsqueeze(0), Sampling(temperature=1.0, seed=7), draws)
    shares = torch.bincount(torch.tensor(found), minlength=4) / draws
    # Three standard deviations of the likeliest are 0.024.
    assert torch.allclose(shares, probabilities, atol=0.024)


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([[0.0, 1.0]])
    cold = sum(tokens(logits, Sampling(temperature=0.3, seed=1), 500)) / 500
    hot = sum(tokens(logits, Sampling(temperature=10.0, seed=1), 500)) / 500
    assert cold > 0.93
    assert 0.45 < hot < 0.6


def test_top_k_and_top_p_leave_the_unlikely_out() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().unsqueeze(0)
    assert set(tokens(logits, Sampling(temperature=1.0, top_k=2, seed=1), 200)) == {0, 1}
    assert set(tokens(logits, Sampling(temperature=1.0, top_p=0.7, seed=1), 200)) == {0, 1}
    assert set(tokens(logits, Sampling(temperature=1.0, top_p=0.01, seed=1), 50)) == {0}
    assert set(tokens(logits, Sampling(temperature=1.0, top_k=10**6, seed=1), 300)) == {0, 1, 2, 3}


def test_a_tiny_temperature_is_greedy_and_impossible_tokens_never_come() -> None:
    assert tokens(LOGITS[:1], Sampling(temperature=1e-38), 20) == [int(LOGITS[0].argmax())] * 20
    masked = torch.full((1, 10), -torch.inf)
    masked[0, 3] = 0.0
    assert set(tokens(masked, Sampling(temperature=5.0), 100)) == {3}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"top_k": 1.5},
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="out of bounds") as caught:
        validate(Sampling(**options))  # type: ignore[arg-type]  # that is the point
    assert next(iter(options)) in str(caught.value)


def test_options_within_bounds_pass_and_survive_the_wire() -> None:
    options = Sampling(temperature=0.7, top_k=50, top_p=1.0, seed=MAX_SEED)
    validate(options)
    validate(Sampling())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=Sampling) == options


def test_what_is_not_a_number_is_never_sampled() -> None:
    broken = LOGITS.clone()
    broken[2, 7] = torch.nan
    for sampling in (Sampling(), Sampling(temperature=1.0)):
        with pytest.raises(SessionError, match="not a number"):
            sample(broken, sampling, [0, 0, 0, 0])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(SessionError, match="4 rows of logits, 3 positions"):
        sample(LOGITS, Sampling(), [0, 0, 0])
