"""Models without weights: transformers' configs and modules, whole or cut to a span."""

import copy
import re
from pathlib import Path
from typing import Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from runtime.errors import ModelError
from runtime.model.architecture import Architecture, architecture
from runtime.model.manifest import EMBEDDINGS, HEAD, block_file
from runtime.spec.base import Span

# Lists in a config with one entry per block.
_PER_BLOCK: Final = ("layer_types", "no_rope_layers")

# Settings with which a block's result depends on its number. A span numbers its blocks from 0, so
# only these values are exact.
_SAME_IN_EVERY_BLOCK: Final[dict[str, object]] = {
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "scale_attn_by_inverse_layer_idx": False,
    "is_heterogeneous": False,
}

# Rotary positions whose frequencies change once a sequence outgrows the length of pre-training,
# which rewrites what is cached already. Up to that length they are constant.
_CHANGING_ROPES: Final = ("dynamic", "longrope")


def read_config(directory: Path) -> PreTrainedConfig:
    """Return a directory's config, checked to be one that can be split exactly.

    Raises:
        ModelError: it is missing, damaged, of an unsupported family or of an unsupported kind.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory} has no config.json", "name a Hugging Face model directory")
    try:
        content, _ = PreTrainedConfig.get_config_dict(directory)
        architecture(str(content.get("model_type")))
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds for one cause: a damaged file
        raise ModelError(f"{path} cannot be read: {error}") from error
    check_config(config)
    return config


def check_config(config: PreTrainedConfig) -> None:
    """Refuse what could not be served exactly.

    Raises:
        ModelError: which setting, and why.
    """
    architecture(config.model_type)
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            "the checkpoint is quantised in a form that is not supported",
            "import the unquantised checkpoint, or a GGUF file of it",
        )
    for name, needed in _SAME_IN_EVERY_BLOCK.items():
        value = getattr(config, name, needed)
        if value != needed:
            raise ModelError(
                f"{name} = {value!r} is not supported: its blocks would compute something else "
                "when served by several stages"
            )


def max_length(config: PreTrainedConfig) -> int:
    """Return how many tokens a sequence may have."""
    limit: int = config.max_position_embeddings
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *(value for value in ropes.values() if isinstance(value, dict))):
        if rope.get("rope_type") in _CHANGING_ROPES:
            limit = min(limit, rope.get("original_max_position_embeddings") or limit)
    return limit


def span_config(config: PreTrainedConfig, span: Span) -> PreTrainedConfig:
    """Return the config of a model that consists of the span's blocks only."""
    cut = copy.deepcopy(config)
    for name in _PER_BLOCK:
        if getattr(config, name, None) is not None:
            setattr(cut, name, getattr(config, name)[span.start : span.end])
    cut.num_hidden_layers = len(span)
    return cut


def empty_model(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Return the `...ForCausalLM` of a config on the meta device, in evaluation mode."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def file_of(tensor: str, family: Architecture) -> str:
    """Return which file of a model directory holds a tensor, given its name in the whole model.

    Raises:
        ModelError: it is part of neither a block nor an edge.
    """
    if match := re.match(rf"{family.base}\.{family.blocks}\.(\d+)\.", tensor):
        return block_file(int(match[1]))
    if tensor.startswith((f"{family.base}.{family.norm}.", "lm_head.")):
        return HEAD
    for part in (family.tokens, family.positions):
        if part is not None and tensor.startswith(f"{family.base}.{part}."):
            return EMBEDDINGS
    raise ModelError(f"tensor {tensor} belongs to no block, embedding or head")
