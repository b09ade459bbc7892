"""What a model can be imported from."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

_SAMPLE: Final = 1 << 16
_SAMPLES: Final = 256

Reader = Callable[[], Tensor]
"""Reads one tensor from the checkpoint when it is called."""


class Source(Protocol):
    """A checkpoint, opened but not read.

    Attributes:
        kind: its form.
        name: what the model is called unless the operator says otherwise.
        files: everything it consists of, in a stable order.
    """

    kind: Literal["gguf", "huggingface"]
    name: str
    files: tuple[Path, ...]

    @property
    def config(self) -> PreTrainedConfig:
        """The config for the model directory; reading it may take seconds.

        Raises:
            ModelError: the model is damaged or not supported.
        """

    @property
    def dtype(self) -> torch.dtype:
        """The number format that `--dtype auto` means."""

    def readers(self, model: PreTrainedModel) -> Mapping[str, Reader]:
        """Return how to read each tensor of `model` that the checkpoint holds.

        Args:
            model: the whole model without weights; its names are the keys.

        Raises:
            ModelError: the checkpoint holds a tensor that the model has no place for.
        """

    def write_texts(self, directory: Path) -> None:
        """Write the tokenizer and, if the checkpoint has them, the generation settings.

        Raises:
            ModelError: there is no tokenizer, or none that can be used.
        """


def fingerprint(source: Source, *versions: object) -> str:
    """Return a sha256 that changes with the checkpoint and with what reads it.

    Of each file, its size and 256 stretches of 64 KiB spread over it are read: that tells any two
    trainings of a model apart in seconds, also for files too large to read whole.
    """
    digest = hashlib.sha256(repr((source.kind, versions)).encode())
    for path in source.files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        step = max(_SAMPLE, (size - _SAMPLE) // (_SAMPLES - 1))
        with path.open("rb") as file:
            for offset in range(0, size, step):
                file.seek(offset)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def some(names: Iterable[str]) -> str:
    """Return the first names of many, for a message."""
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
