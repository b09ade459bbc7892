from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from runtime.model.dtype import DTYPES
from runtime.model.tensor_file import ALIGNMENT, is_aligned, write_tensors

shapes = st.lists(st.integers(0, 9), max_size=3).map(tuple)
names = st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__")


def read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  safe_open is no mapping


@given(st.dictionaries(names, shapes, max_size=6), st.sampled_from(list(DTYPES.values())))
def test_what_is_written_is_read_by_the_library(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "file.safetensors"
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in wanted.items()}
    write_tensors(path, tensors)
    found = read(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype is dtype
        assert torch.equal(found[name], tensor)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_lie_aligned_and_those_of_odd_sizes_come_last(tmp_path: Path) -> None:
    tensors = {
        "a.bias": torch.randn(5),
        "a.weight": torch.randn(5, 16),
        "b.weight": torch.randn(32),
    }
    write_tensors(tmp_path / "file.safetensors", tensors)
    found = read(tmp_path / "file.safetensors")
    assert is_aligned(found["a.weight"])
    assert is_aligned(found["b.weight"])
    assert (tmp_path / "file.safetensors").stat().st_size % ALIGNMENT == 20


def test_a_tensor_that_is_not_contiguous_is_written_in_its_own_order(tmp_path: Path) -> None:
    turned = torch.arange(12.0).view(3, 4).T
    write_tensors(tmp_path / "file.safetensors", {"turned": turned})
    assert torch.equal(read(tmp_path / "file.safetensors")["turned"], turned)
