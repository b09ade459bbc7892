"""GGUF files as sources, read tensor by tensor with transformers' own tables."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    AutoConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.gguf import read_gguf_metadata
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
    load_gguf_checkpoint,
)

from runtime.errors import ModelError
from runtime.model.architecture import architecture
from runtime.model.skeleton import check_config
from runtime.model.source import Reader, some

_USE_CHECKPOINT: Final = "import the model's Hugging Face directory instead"

# Byte-level vocabularies whose text is split as GPT-2's; transformers takes that for granted for
# every name it does not know.
_GPT2_SPLITS: Final = ("gpt-2", "phi-2")
# These split digits off one by one before that, which transformers does not know: it would turn
# "\n\n1." into other tokens than the model was trained on.
_DIGIT_SPLITS: Final = ("smollm",)

# Tokens that end a chat turn, beside the end of the text.
_END_KEYS: Final = ("eos_token_id", "eot_token_id", "eom_token_id")


class GgufSource:
    """See `source.Source`.

    Raises:
        ModelError: the file is damaged, is a part of several, or transformers would read it
            otherwise than the model was made.
    """

    kind: Literal["gguf", "huggingface"] = "gguf"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.stem
        self.files: tuple[Path, ...] = (path,)
        with self._readable():
            self._metadata, _ = read_gguf_metadata(str(path))
        self._architecture = str(self._metadata["general.architecture"])
        self._check_metadata()

    @cached_property
    def config(self) -> PreTrainedConfig:
        """See `Source.config`."""
        settings = {key: value for key, value in self._settings.items() if key[0] != "_"}
        config: PreTrainedConfig = AutoConfig.for_model(**settings)
        check_config(config)
        self._check_window(config)
        return config

    @cached_property
    def dtype(self) -> torch.dtype:
        """float32 or float16 if the file holds nothing else, bfloat16 if it is quantised."""
        types = {tensor.tensor_type.name for tensor in self._tensors}
        if types == {"F32"}:
            return torch.float32
        return torch.float16 if types <= {"F32", "F16"} else torch.bfloat16

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """The config as transformers reads it from the file; this takes seconds."""
        with self._readable():
            settings: dict[str, Any] = load_gguf_checkpoint(self._path)["config"]
        architecture(settings["model_type"])
        return settings

    @cached_property
    def _tensors(self) -> Sequence[Any]:
        with self._readable():
            tensors: Sequence[Any] = gguf.GGUFReader(self._path).tensors
        return tensors

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the readers raise whatever the damage makes them stumble on
            raise ModelError(
                f"{self._path} cannot be read as a GGUF file: {error}",
                "is it complete? download it again",
            ) from error

    def readers(self, model: PreTrainedModel) -> Mapping[str, Reader]:
        """See `Source.readers`."""
        processor = TENSOR_PROCESSORS.get(self._architecture, TensorProcessor)(
            config=self._settings
        )
        # The search asks every module of a model again for names that the whole model's tensors
        # have given already, each time building the tables anew: minutes for a large model.
        whole = SimpleNamespace(
            config=model.config, state_dict=model.state_dict, named_children=tuple
        )
        names = get_gguf_hf_weights_map(whole, processor)
        parts: dict[str, list[Any]] = defaultdict(list)
        unexpected = []
        for tensor in self._tensors:
            # Parameters that are no `.weight` in transformers (stacked experts) lack the suffix.
            target = names.get(tensor.name) or names.get(tensor.name.removesuffix(".weight"))
            if target is None:
                unexpected.append(tensor.name)
            else:
                parts[target].append(tensor)
        if unexpected:
            raise ModelError(
                f"{self._path} has tensors that transformers would drop: {some(unexpected)}",
                _USE_CHECKPOINT,
            )

        def reader(target: str) -> Reader:
            return lambda: _dequantized(target, parts[target], processor, names)

        return {target: reader(target) for target in parts}

    def write_texts(self, directory: Path) -> None:
        """See `Source.write_texts`."""
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(
                self._path.parent, gguf_file=self._path.name
            )
        except Exception as error:  # transformers raises many kinds for vocabularies it cannot read
            raise ModelError(
                f"the tokenizer in {self._path} cannot be read: {error}", _USE_CHECKPOINT
            ) from error
        if self._metadata.get("tokenizer.ggml.pre") in _DIGIT_SPLITS:
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
        tokenizer.save_pretrained(directory)
        settings = GenerationConfig.from_model_config(self.config)
        ends = [self._metadata.get(f"tokenizer.ggml.{key}") for key in _END_KEYS]
        known = list(dict.fromkeys(end for end in ends if end is not None))
        settings.eos_token_id = known if len(known) > 1 else settings.eos_token_id
        settings.save_pretrained(directory)

    def _check_metadata(self) -> None:
        """Refuse files that transformers reads without a word, but not as they are meant."""
        metadata = self._metadata
        if metadata.get("split.count", 0) > 1:
            raise ModelError(
                f"{self._path} is one of {metadata['split.count']} parts",
                "join them first: llama-gguf-split --merge FIRST_PART WHOLE",
            )
        scaling = metadata.get(f"{self._architecture}.rope.scaling.type", "none")
        if scaling != "none":
            raise ModelError(
                f"{self._path} scales its positions ({scaling}), which transformers does not read "
                "from GGUF files",
                _USE_CHECKPOINT,
            )
        split = metadata.get("tokenizer.ggml.pre")
        if metadata.get("tokenizer.ggml.model") == "gpt2" and split not in {
            *GGUF_PRE_TOKENIZER_SPLITS,
            *_GPT2_SPLITS,
            *_DIGIT_SPLITS,
        }:
            raise ModelError(
                f"{self._path} splits text in a way that transformers does not know ({split})",
                _USE_CHECKPOINT,
            )

    def _check_window(self, config: PreTrainedConfig) -> None:
        """Refuse a sliding window that transformers leaves out for this family (Phi-3)."""
        window = self._metadata.get(f"{self._architecture}.attention.sliding_window")
        if window and window != getattr(config, "sliding_window", None):
            raise ModelError(
                f"{self._path} attends to {window} tokens at a time, which transformers does not "
                "read from GGUF files of this family",
                _USE_CHECKPOINT,
            )


def _dequantized(
    target: str, parts: list[Any], processor: TensorProcessor, names: Mapping[str, str]
) -> Tensor:
    """Return one tensor as float32, in transformers' order of rows."""
    # Processors that make one tensor of several (stacked experts) put it here themselves.
    found: dict[str, Tensor] = {}
    for part in parts:
        result = processor.process(
            weights=gguf.dequantize(part.data, part.tensor_type),
            name=part.name,
            tensor_key_mapping=names,
            parsed_parameters={"tensors": found},
        )
        if result.name is not None:
            found[target] = torch.from_numpy(np.require(result.weights, requirements=["C", "W"]))
    return found[target]
