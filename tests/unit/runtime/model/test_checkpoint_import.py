"""Hugging Face directories: every family comes out as transformers reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from runtime.errors import ModelError
from runtime.model.architecture import SUPPORTED
from runtime.model.checkpoint import CheckpointSource
from runtime.model.importer import import_model
from runtime.model.manifest import Manifest, read_manifest
from tests.support.models import BLOCKS, save_checkpoint, tiny_config, tiny_model


def imported(checkpoint: Path, destination: Path) -> Manifest:
    return import_model(CheckpointSource(checkpoint), destination).manifest


def same_logits(model: PreTrainedModel, directory: Path) -> bool:
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(directory)
        return torch.equal(again(ids).logits, model(ids).logits)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tiny_model(tiny_config("llama")), tmp_path / "checkpoint")


def rewrite(checkpoint: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def set_config(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", SUPPORTED)
def test_every_family_from_shards(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family))
    # Mixtral and Qwen3-MoE are written with one tensor per expert, as on the hub.
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint", max_shard_size="40KB")
    assert len(list(checkpoint.glob("*.safetensors"))) > 1
    manifest = imported(checkpoint, tmp_path / "model")
    assert same_logits(model, tmp_path / "model")
    assert (manifest.model_type, manifest.total_blocks) == (family, BLOCKS)
    assert manifest.tied == bool(model.all_tied_weights_keys)
    stored = sum(manifest.block_bytes) + manifest.embeddings_bytes + manifest.head_bytes
    assert stored == sum(
        value.nbytes
        for name, value in model.state_dict().items()
        if name not in model.all_tied_weights_keys
    )


def test_a_block_is_in_its_own_file(checkpoint: Path, tmp_path: Path) -> None:
    imported(checkpoint, tmp_path / "model")
    for block in range(BLOCKS):
        names = load_file(tmp_path / "model" / f"block-{block:04d}.safetensors").keys()
        assert len(names) == 9
        assert all(name.startswith(f"model.layers.{block}.") for name in names)
    embeddings = load_file(tmp_path / "model" / "embeddings.safetensors")
    assert embeddings.keys() == {"model.embed_tokens.weight"}
    head = load_file(tmp_path / "model" / "head.safetensors")
    assert head.keys() == {"model.norm.weight", "lm_head.weight"}


def test_old_gpt2_names_and_buffers(tmp_path: Path) -> None:
    """GPT-2 on the hub has no prefix, a copy of the head and its causal masks."""
    model = tiny_model(tiny_config("gpt2"))
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint")

    def age(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()
        for block in range(BLOCKS):
            tensors[f"h.{block}.attn.bias"] = torch.ones(1, 1, 8, 8)
            tensors[f"h.{block}.attn.masked_bias"] = torch.tensor(-1e4)

    rewrite(checkpoint, age)
    imported(checkpoint, tmp_path / "model")
    assert same_logits(model, tmp_path / "model")
    assert load_file(tmp_path / "model" / "head.safetensors").keys() == {
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
    }


def test_a_head_that_is_tied_but_differs_is_refused(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama", tie_word_embeddings=True))
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint")
    rewrite(
        checkpoint,
        lambda tensors: tensors.update(
            {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}
        ),
    )
    with pytest.raises(ModelError, match=r"ties lm_head\.weight to .*, but they differ"):
        imported(checkpoint, tmp_path / "model")


def test_missing_and_unexpected_tensors_are_named(checkpoint: Path, tmp_path: Path) -> None:
    lost = [f"model.layers.{block}.mlp.up_proj.weight" for block in range(BLOCKS)]

    def lose(tensors: dict[str, Tensor]) -> None:
        for name in lost:
            del tensors[name]

    rewrite(checkpoint, lose)
    with pytest.raises(ModelError, match=r"lacks .*layers\.0\.mlp\.up_proj\.weight.* and 2 more"):
        imported(checkpoint, tmp_path / "model")
    rewrite(checkpoint, lambda tensors: tensors.update({"model.extra.weight": torch.ones(2)}))
    with pytest.raises(ModelError, match=r"does not have: model\.extra\.weight"):
        imported(checkpoint, tmp_path / "model")


def test_a_tensor_of_another_shape_is_named(checkpoint: Path, tmp_path: Path) -> None:
    set_config(checkpoint, intermediate_size=96)
    with pytest.raises(ModelError, match=r"has shape .*; by the config it should have"):
        imported(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_pickles_are_refused_with_a_hint(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model\.bin\)") as caught:
        CheckpointSource(checkpoint)
    assert "safetensors" in caught.value.hint


def test_a_truncated_shard_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        imported(checkpoint, tmp_path / "model")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(
        tiny_model(tiny_config("llama")), tmp_path / "checkpoint", max_shard_size="40KB"
    )
    lost = sorted(checkpoint.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=f"lacks {lost.name}"):
        CheckpointSource(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' are not supported"),
        ({"model_type": "no-such-model"}, "'no-such-model' are not supported"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
    ],
)
def test_unsupported_configs_are_refused(
    changes: dict[str, object], message: str, checkpoint: Path
) -> None:
    set_config(checkpoint, **changes)
    with pytest.raises(ModelError, match=message):
        CheckpointSource(checkpoint)


def test_blocks_that_ask_for_their_number_are_refused(tmp_path: Path) -> None:
    config = tiny_config("gpt2", scale_attn_by_inverse_layer_idx=True)
    checkpoint = save_checkpoint(tiny_model(config), tmp_path / "checkpoint")
    with pytest.raises(ModelError, match="scale_attn_by_inverse_layer_idx = True"):
        CheckpointSource(checkpoint)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llama", "hidden_size": "wide"}'])
def test_a_damaged_config_is_refused(content: str, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json cannot be read|not supported"):
        CheckpointSource(checkpoint)


def test_a_model_without_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        imported(checkpoint, tmp_path / "model")


def test_a_tokenizer_that_cannot_be_loaded_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        imported(checkpoint, tmp_path / "model")


def test_texts_are_copied_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [257, 258]}')
    imported(checkpoint, tmp_path / "model")
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (tmp_path / "model" / name).read_bytes() == (checkpoint / name).read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("hi").input_ids == AutoTokenizer.from_pretrained(checkpoint)("hi").input_ids


def test_auto_keeps_the_stored_number_format(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama")).to(torch.bfloat16)
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint")
    assert imported(checkpoint, tmp_path / "model").dtype == "bfloat16"
    assert read_manifest(tmp_path / "model").origin.dtype == "bfloat16"
    # A config without a number format: the tensors tell.
    config = json.loads((checkpoint / "config.json").read_text())
    del config["dtype"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert CheckpointSource(checkpoint).dtype is torch.bfloat16
