import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import WireError
from runtime.model.dtype import DTYPES
from runtime.model.manifest import Dtype
from runtime.wire.tensors import tensor_bytes, tensor_from

shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))


@given(st.sampled_from(sorted(DTYPES)), shapes, st.integers(0, 2**32))
def test_hidden_states_survive_the_wire_bit_by_bit(
    dtype: Dtype, shape: tuple[int, int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(shape).to(DTYPES[dtype])
    found = tensor_from(bytearray(tensor_bytes(hidden)), dtype, shape)
    assert found.dtype == hidden.dtype
    assert torch.equal(found, hidden)


def test_a_strided_tensor_is_sent_in_order() -> None:
    hidden = torch.arange(24, dtype=torch.float32).view(2, 4, 3).transpose(1, 2)
    found = tensor_from(bytearray(tensor_bytes(hidden)), "float32", (2, 3, 4))
    assert torch.equal(found, hidden)


@given(shapes, st.integers(0, 2000))
def test_a_body_of_another_size_is_refused(shape: tuple[int, int, int], size: int) -> None:
    wanted = shape[0] * shape[1] * shape[2] * 2
    if size == wanted:
        size += 1
    with pytest.raises(WireError, match=f"{size} bytes for"):
        tensor_from(bytearray(size), "float16", shape)
