"""Tiny random models of every supported family, and the real demonstration model."""

import copy
import fcntl
import os
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from runtime.errors import ModelError
from runtime.model.importer import find_source, import_model

BLOCKS: Final = 5
VOCABULARY: Final = 300
BYTES: Final = 256
"""Token ids below this one are single bytes."""

_COMMON: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": BLOCKS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
    # Far apart logits and attention that matters: a misplaced mask or position changes the tokens.
    "initializer_range": 0.3,
}
_OWN: Final[dict[str, dict[str, Any]]] = {
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        "sliding_window": 6,
        "query_pre_attn_scalar": 8,
        "layer_types": [
            "sliding_attention",
            "full_attention",
            "sliding_attention",
            "sliding_attention",
            "full_attention",
        ],
    },
    "gpt2": {"n_inner": 64, "num_key_value_heads": None, "head_dim": None},
    "mistral": {"sliding_window": 6},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 2,
        "head_dim": None,
    },
    "qwen3_moe": {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "smollm3": {"no_rope_layers": [1, 0, 1, 1, 0]},
}


def tiny_config(model_type: str, **changes: object) -> PreTrainedConfig:
    """Return the config of a five-block model with a vocabulary of bytes."""
    settings = {**_COMMON, **_OWN.get(model_type, {}), **changes}
    return AutoConfig.for_model(
        model_type, **{key: value for key, value in settings.items() if value is not None}
    )


def tiny_model(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Return a random model, in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, three special ones and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|start|>", "<|end|>", "<|pad|>"]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *specials])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=specials[0],
        eos_token=specials[1],
        pad_token=specials[2],
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|start|>{{ message.role }}: {{ message.content }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
    )
    return tokenizer


def save_checkpoint(model: PreTrainedModel, directory: Path, **options: object) -> Path:
    """Write a model and the byte tokenizer as Hugging Face does, and return the directory."""
    model.save_pretrained(directory, **options)
    byte_tokenizer().save_pretrained(directory)
    return directory


def import_tiny(
    model_type: str, directory: Path, **changes: object
) -> tuple[PreTrainedModel, Path]:
    """Make a tiny model and import it; return it whole, and its model directory."""
    model = tiny_model(tiny_config(model_type, **changes))
    checkpoint = save_checkpoint(model, directory / "checkpoint")
    import_model(find_source(str(checkpoint)), directory / "model", name=f"tiny-{model_type}")
    return model, directory / "model"


def sample_model() -> Path:
    """Return the model directory of SmolLM2-135M-Instruct in float32, imported once and kept.

    It lies in `.cache/tests` of the repository unless STAGEFLEET_TEST_CACHE names another place.

    Raises:
        ModelError: the package with the model is not installed.
    """
    repository = Path(__file__).parents[2]
    cache = Path(os.environ.get("STAGEFLEET_TEST_CACHE", repository / ".cache" / "tests"))
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / "smollm2-float32"
    with (cache / "lock").open("w") as lock:  # one process imports, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = find_source("sample")
        try:
            import_model(source, directory, dtype="float32")
        except ModelError:  # made by another version of the importer
            import_model(source, directory, dtype="float32", force=True)
    return directory
