"""Random models too large to build in memory, imported tensor by tensor."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from runtime.model.importer import import_model
from runtime.model.manifest import Manifest
from runtime.model.source import Reader
from tests.support.models import byte_tokenizer

_NOISE: Final = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).bfloat16() / 50


class RandomSource:
    """A `source.Source` that makes its tensors up when they are read."""

    kind: Literal["gguf", "huggingface"] = "huggingface"
    name = "random"
    files: tuple[Path, ...] = ()
    dtype = torch.bfloat16

    def __init__(self, **settings: int) -> None:
        self.config: Any = AutoConfig.for_model("llama", **settings)

    def readers(self, model: PreTrainedModel) -> Mapping[str, Reader]:
        return {name: partial(_noise, value.shape) for name, value in model.state_dict().items()}

    def write_texts(self, directory: Path) -> None:
        byte_tokenizer().save_pretrained(directory)


def import_random(directory: Path) -> Manifest:
    """Write a bfloat16 Llama of 16 blocks and 1.7 GB, and return its manifest."""
    source = RandomSource(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=4,
    )
    return import_model(source, directory).manifest


def _noise(shape: torch.Size) -> Tensor:
    size = shape.numel()
    return _NOISE.repeat(-(-size // len(_NOISE)))[:size].view(shape)
