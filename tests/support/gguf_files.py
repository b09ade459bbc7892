"""Tiny GGUF files of the families that transformers reads from this format."""

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
    load_gguf_checkpoint,
)

from runtime.model.skeleton import empty_model

HEADS, KV_HEADS, WIDTH, HIDDEN, INNER, BLOCKS = 4, 2, 8, 32, 64, 2
ARCHITECTURES: Final = ("gemma2", "gemma3", "gpt2", "llama", "phi3", "qwen2", "qwen3", "qwen3moe")

# What transformers takes for granted because it does not read it.
_WIDTHS: Final = {"qwen3": 128}
_EXPERT_INNER: Final = 768
_TRANSPOSED: Final = ("attn_qkv.weight", "ffn_down.weight", "ffn_up.weight", "attn_output.weight")
CHAT: Final = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}"


def write_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    quantised: bool = True,
    metadata: dict[str, Any] | None = None,
    drop: str | None = None,
    add: str | None = None,
) -> Path:
    """Write a random model and return the path.

    Args:
        path: the file.
        architecture: llama.cpp's name of the family.
        quantised: store matrices as Q8_0 and every other one as Q4_1; else all as F32.
        metadata: replaces or, with None, removes entries.
        drop: a tensor to leave out.
        add: a tensor to invent.
    """
    entries = {**_metadata(architecture), **(metadata or {})}
    probe = path.with_suffix(".probe")
    _write(probe, architecture, entries, {})
    settings = load_gguf_checkpoint(probe)["config"]
    probe.unlink()
    settings["tie_word_embeddings"] = True
    model = empty_model(AutoConfig.for_model(**settings), torch.float32)
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=settings)
    names = get_gguf_hf_weights_map(model, processor)
    state = model.state_dict()
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, target in names.items():
        if name in {drop, "output.weight"}:
            continue
        shape = list(state[target].shape)
        if name.endswith("_exps"):  # gate and up are two tensors here and one in transformers
            name = f"{name}.weight"  # noqa: PLW2901  the file's name of the same tensor
            shape = [shape[0], _EXPERT_INNER, HIDDEN] if "down" not in name else shape
        if architecture == "gpt2" and name.endswith(_TRANSPOSED):
            shape.reverse()
        tensors[name] = random.standard_normal(shape, dtype=np.float32)
    if add is not None:
        tensors[add] = np.ones(4, dtype=np.float32)
    _write(path, architecture, entries, tensors, quantised=quantised)
    return path


def _metadata(architecture: str) -> dict[str, Any]:
    width = _WIDTHS.get(architecture, WIDTH)
    own: dict[str, float] = {
        "context_length": 128,
        "block_count": BLOCKS,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
    }
    if architecture == "gpt2":
        own["attention.layer_norm_epsilon"] = 1e-5
    else:
        own |= {
            "attention.head_count_kv": KV_HEADS,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "attention.key_length": width,
            "rope.dimension_count": width,
            "rope.freq_base": 10000.0,
        }
    if architecture.startswith("gemma"):
        own["attention.sliding_window"] = 16
    if architecture == "qwen3moe":
        own |= {"expert_count": 3, "expert_used_count": 2}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {
        "general.name": "tiny",
        **{f"{architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*alphabet, "he", "ĊĊ", "<|start|>", "<|end|>", "<|eot|>"],
        "tokenizer.ggml.token_type": [*[1] * (len(alphabet) + 2), 3, 3, 3],
        "tokenizer.ggml.merges": ["h e", "Ċ Ċ"],
        "tokenizer.ggml.bos_token_id": len(alphabet) + 2,
        "tokenizer.ggml.eos_token_id": len(alphabet) + 3,
        "tokenizer.ggml.eot_token_id": len(alphabet) + 4,
        "tokenizer.ggml.padding_token_id": len(alphabet) + 3,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT,
    }


def _write(
    path: Path,
    architecture: str,
    metadata: dict[str, Any],
    tensors: dict[str, np.ndarray[Any, Any]],
    *,
    quantised: bool = False,
) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1)
    for number, (name, tensor) in enumerate(tensors.items()):
        if quantised and tensor.ndim > 1:
            kind = kinds[number % 2]
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
