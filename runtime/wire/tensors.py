"""Hidden states as raw bytes: little endian, C order, the shape checked before torch sees them."""

import torch
from torch import Tensor

from runtime.errors import WireError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def dtype_name(tensor: Tensor) -> str:
    """Return the word for a tensor's number format on the wire."""
    return _NAMES[tensor.dtype]


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes, without a copy if it is contiguous and on the CPU."""
    return memoryview(tensor.detach().cpu().contiguous().view(torch.uint8).numpy()).cast("B")


def tensor_from(body: bytearray, dtype: str, shape: tuple[int, int, int]) -> Tensor:
    """Return the tensor that shares memory with `body`.

    Raises:
        WireError: the body does not have exactly the bytes that the shape asks for.
    """
    kind = _DTYPES[dtype]
    wanted = shape[0] * shape[1] * shape[2] * kind.itemsize
    if len(body) != wanted:
        raise WireError(f"{len(body)} bytes for {list(shape)} {dtype}, which takes {wanted}")
    return torch.frombuffer(body, dtype=kind).view(shape)
