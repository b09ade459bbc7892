"""The number formats of weights, by the names that configs and flags use."""

from typing import Final

import torch

from runtime.errors import ModelError
from runtime.model.manifest import Dtype

DTYPES: Final[dict[Dtype, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def dtype_name(dtype: torch.dtype) -> Dtype:
    """Return the name of a number format.

    Raises:
        ModelError: weights in this format cannot be used.
    """
    for name, known in DTYPES.items():
        if known is dtype:
            return name
    raise ModelError(
        f"weights of type {dtype} are not supported", f"use --dtype with one of {', '.join(DTYPES)}"
    )
