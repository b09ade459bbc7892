"""Hugging Face directories as sources: safetensors files, sharded or not."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from runtime.errors import ModelError
from runtime.model.manifest import INDEX
from runtime.model.skeleton import read_config
from runtime.model.source import Reader, some

_TEXTS: Final = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")

# Buffers that old checkpoints carry and that today's modules compute themselves.
_STALE_BUFFERS: Final = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")


class _Part(NamedTuple):
    """A tensor of the checkpoint, and the converter's pattern that it matched."""

    name: str
    path: Path
    pattern: str | None

    def read(self) -> Tensor:
        with _opened(self.path) as file:
            tensor: Tensor = file.get_tensor(self.name)
            return tensor


class CheckpointSource:
    """See `source.Source`.

    Raises:
        ModelError: the directory is no checkpoint, is a pickle, is damaged or is not supported.
    """

    kind: Literal["gguf", "huggingface"] = "huggingface"

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self._directory = directory
        self.name = name or directory.resolve().name
        self.config: PreTrainedConfig = read_config(directory)
        self._shards = _shards(directory)
        texts = [directory / name for name in ("config.json", *_TEXTS)]
        self.files = (*(path for path in texts if path.is_file()), *self._shards)

    @property
    def dtype(self) -> torch.dtype:
        """What the config says, or else the number format of the first tensor."""
        if self.config.dtype is not None:
            return cast("torch.dtype", self.config.dtype)
        with _opened(self._shards[0]) as file:
            return cast("torch.dtype", file.get_tensor(next(iter(file.keys()))).dtype)

    def readers(self, model: PreTrainedModel) -> Mapping[str, Reader]:
        """See `Source.readers`."""
        state = model.state_dict()
        transforms = get_model_conversion_mapping(model)
        renamings = [step for step in transforms if isinstance(step, WeightRenaming)]
        converters = [step for step in transforms if isinstance(step, WeightConverter)]
        # Which tensors of the checkpoint make which one of the model: transformers' own mapping.
        # Most are one under the same name, an old name or without its prefix; Mixtral's experts
        # are stacked by a converter from one tensor per expert.
        parts: dict[str, list[_Part]] = defaultdict(list)
        for path in self._shards:
            with _opened(path) as file:
                names = list(file.keys())
            for name in names:
                if name.endswith(_STALE_BUFFERS):
                    continue
                target, pattern = rename_source_key(
                    name, renamings, converters, model.base_model_prefix, state
                )
                parts[target].append(_Part(name, path, pattern))
        if unexpected := parts.keys() - state.keys():
            raise ModelError(
                f"{self._directory} has tensors that a {self.config.model_type} model does not "
                f"have: {some(unexpected)}"
            )
        readers = {target: _reader(target, found, converters) for target, found in parts.items()}
        for copy, original in model.all_tied_weights_keys.items():
            if copy in readers and original in readers:
                _check_equal(copy, readers.pop(copy), original, readers[original])
        return readers

    def write_texts(self, directory: Path) -> None:
        """See `Source.write_texts`."""
        if not any((self._directory / name).is_file() for name in _VOCABULARIES):
            raise ModelError(
                f"{self._directory} has no tokenizer",
                "put the model's tokenizer.json and tokenizer_config.json beside its weights",
            )
        for name in _TEXTS:
            if (self._directory / name).is_file():
                shutil.copyfile(self._directory / name, directory / name)


def _reader(target: str, parts: list[_Part], converters: list[WeightConverter]) -> Reader:
    """Return what makes the tensor `target` of its parts.

    Raises:
        ModelError: two tensors of the checkpoint claim the same place.
    """
    pattern = parts[0].pattern
    if pattern is None:
        if len(parts) > 1:
            raise ModelError(f"several tensors are {target}: {some(part.name for part in parts)}")
        return parts[0].read
    converter = next(found for found in converters if pattern in found.source_patterns)

    def convert() -> Tensor:
        step = deepcopy(converter)  # it collects its parts
        for part in sorted(parts, key=lambda part: dot_natural_key(part.name)):
            step.add_tensor(target, part.name, part.pattern, part.read)
        [result] = step.convert(target).values()
        tensor: Tensor = result[0] if isinstance(result, list) else result
        return tensor

    return convert


def _check_equal(copy: str, read_copy: Reader, original: str, read_original: Reader) -> None:
    """Refuse a config that ties two tensors which differ: one of them would be lost."""
    if not torch.equal(read_copy(), read_original()):
        raise ModelError(
            f"config.json ties {copy} to {original}, but they differ",
            "set tie_word_embeddings to false in config.json if the head is its own",
        )


def _shards(directory: Path) -> tuple[Path, ...]:
    """Return a checkpoint's safetensors files.

    Raises:
        ModelError: there are none, only pickles, or not all that the index names.
    """
    index = directory / INDEX
    if (directory / "model.safetensors").is_file():
        return (directory / "model.safetensors",)
    if not index.is_file():
        pickles = sorted(path.name for glob in _PICKLES for path in directory.glob(glob))
        if pickles:
            raise ModelError(
                f"{directory} holds pickles ({some(pickles)}), which can run code when opened",
                "use the model's safetensors files; most models on the hub have them",
            )
        raise ModelError(
            f"{directory} has no model.safetensors and no {INDEX}",
            "name a Hugging Face model directory with safetensors files, or a GGUF file",
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: {error}") from None
    shards = tuple(directory / Path(name).name for name in names)
    if missing := [path.name for path in shards if not path.is_file()]:
        raise ModelError(
            f"{directory} lacks {some(missing)}, which its index names",
            "download the whole model again",
        )
    return shards


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; its tensors are mapped, not read."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "download the file again") from None
