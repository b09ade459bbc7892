"""Hidden states as raw bytes: little endian, C order, the shape checked before torch sees them."""

import torch
from torch import Tensor

from runtime.errors import WireError
from runtime.model.dtype import DTYPES
from runtime.model.manifest import Dtype


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes, without a copy if it is contiguous and on the CPU."""
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data.cast("B")


def tensor_from(body: bytearray, dtype: Dtype, shape: tuple[int, int, int]) -> Tensor:
    """Return the tensor that shares memory with `body`.

    Raises:
        WireError: the body does not have exactly the bytes that the shape asks for.
    """
    kind = DTYPES[dtype]
    wanted = shape[0] * shape[1] * shape[2] * kind.itemsize
    if len(body) != wanted:
        raise WireError(f"{len(body)} bytes for {list(shape)} {dtype}, which takes {wanted}")
    return torch.frombuffer(body, dtype=kind).view(shape)
