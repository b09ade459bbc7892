"""Write tensors as safetensors files whose data lies where every kernel reads it alike.

The format is 8 bytes with the header's length, a JSON header, then the tensors one behind another
(the safetensors project's README says it all, trailing spaces of the header included). The
library's own writer lets the data begin at any multiple of 8 bytes. Weights are mapped, not copied,
and some kernels of matrix products add in another order where memory is not aligned (MKL's do for
one token on AMD's processors), so that equal weights would give other roundings. Here the data
begins at a multiple of `ALIGNMENT`, and tensors whose size is none come last.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

ALIGNMENT: Final = 64
"""In bytes: what torch's own allocator gives, and a cache line and the widest register have."""

_NAMES: Final = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def is_aligned(tensor: Tensor) -> bool:
    """Return whether a tensor's first number is where torch's own allocator might have put it."""
    return tensor.data_ptr() % ALIGNMENT == 0


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Args:
        path: the file, made anew.
        tensors: by name, on the CPU, in a number format of `runtime.model.dtype`.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: (item[1].nbytes % ALIGNMENT > 0, item[0]))
    # transformers reads no file without the format's name.
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in ordered:
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
