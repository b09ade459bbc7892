"""GGUF files: the same numbers as transformers' own loader, or a refusal in words."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from runtime.errors import ModelError
from runtime.model.dtype import DTYPES
from runtime.model.gguf_file import GgufSource
from runtime.model.importer import import_model
from runtime.model.manifest import Dtype
from runtime.model.sample import sample_gguf
from runtime.model.skeleton import empty_model
from tests.support.gguf_files import ARCHITECTURES, CHAT, write_gguf


def stored(directory: Path) -> dict[str, Tensor]:
    files = sorted(directory.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_same(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(got[name], wanted[name]), name


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [*((architecture, "float32") for architecture in ARCHITECTURES), ("llama", "bfloat16")],
)
def test_tensors_are_those_of_transformers(architecture: str, dtype: Dtype, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", architecture)
    source = GgufSource(path)
    manifest, _ = import_model(source, tmp_path / "model", dtype=dtype)
    number_format = DTYPES[dtype]
    wanted = load_gguf_checkpoint(
        path,
        return_tensors=True,
        model_to_load=empty_model(source.config, number_format),
        torch_dtype=number_format,
    )["tensors"]
    assert_same(stored(tmp_path / "model"), wanted)
    assert manifest.dtype == dtype
    assert manifest.tied
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype is number_format


@pytest.mark.slow
def test_the_real_model_is_that_of_transformers(
    sample_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers asks for accelerate before it reads a GGUF file, but does not use it here.
    monkeypatch.setattr("transformers.modeling_utils.is_accelerate_available", lambda: True)
    path = sample_gguf()
    whole = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    wanted = dict(whole.state_dict())
    del wanted["lm_head.weight"]  # tied
    assert_same(stored(sample_model), wanted)


@pytest.mark.slow
def test_the_real_tokenizer_chats_and_splits_digits(sample_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.tokenize("\n\n1. a  42") == ["ĊĊ", "1", ".", "Ġa", "ĠĠ", "4", "2"]
    for sample in ("Grüße, 世界! 👋\n\tx  = 10", "  leading", "a<|im_end|>b"):
        assert tokenizer.decode(tokenizer(sample).input_ids) == sample
    settings = GenerationConfig.from_pretrained(sample_model)
    assert settings.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_auto_keeps_floats_and_takes_bfloat16_for_quantised_files(tmp_path: Path) -> None:
    assert GgufSource(write_gguf(tmp_path / "q.gguf")).dtype is torch.bfloat16
    assert GgufSource(write_gguf(tmp_path / "f.gguf", quantised=False)).dtype is torch.float32


def test_tokenizer_template_and_every_end_token_are_kept(tmp_path: Path) -> None:
    import_model(GgufSource(write_gguf(tmp_path / "tiny.gguf")), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hey"}], tokenize=False)
    assert chat == "hey<|end|>"
    assert tokenizer.chat_template == CHAT
    assert tokenizer.tokenize("he\n\n12<|eot|>") == ["he", "ĊĊ", "1", "2", "<|eot|>"]
    ends = GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|end|>", "<|eot|>"]


@pytest.mark.parametrize(
    ("architecture", "metadata", "message"),
    [
        ("llama", {"llama.rope.scaling.type": "yarn"}, "scales its positions"),
        ("llama", {"split.count": 3}, "one of 3 parts"),
        ("llama", {"tokenizer.ggml.pre": "exotic"}, "splits text in a way"),
        ("llama", {"tokenizer.ggml.pre": None}, "splits text in a way"),
        ("phi3", {"phi3.attention.sliding_window": 16}, "attends to 16 tokens at a time"),
    ],
)
def test_what_transformers_would_misread_is_refused(
    architecture: str, metadata: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", architecture, metadata=metadata)
    with pytest.raises(ModelError, match=message):
        import_model(GgufSource(path), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_tensors_that_transformers_would_drop_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", add="rope_freqs.weight")
    with pytest.raises(ModelError, match=r"would drop: rope_freqs\.weight") as caught:
        import_model(GgufSource(path), tmp_path / "model")
    assert "Hugging Face directory" in caught.value.hint


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", drop="blk.1.ffn_down.weight")
    with pytest.raises(ModelError, match=r"lacks .*: model\.layers\.1\.mlp\.down_proj\.weight"):
        import_model(GgufSource(path), tmp_path / "model")


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "qwen3", metadata={"qwen3.feed_forward_length": 64})
    # The width of a head is not read from this family, so another one shows in the shapes.
    source = GgufSource(path)
    source.config.head_dim = 64
    with pytest.raises(ModelError, match=r"has shape .* by the config it should have"):
        import_model(source, tmp_path / "model")


@pytest.mark.parametrize("keep", [0.05, 0.6, 0.99])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match="cannot be read as a GGUF file") as caught:
        import_model(GgufSource(path), tmp_path / "model")
    assert "download it again" in caught.value.hint


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"PK" + bytes(100))
    with pytest.raises(ModelError, match="cannot be read as a GGUF file"):
        GgufSource(path)


def test_an_unsupported_family_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama")
    content = path.read_bytes().replace(
        b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00mamba"
    )
    path.write_bytes(content)
    with pytest.raises(ModelError, match="'mamba' are not supported"):
        import_model(GgufSource(path), tmp_path / "model")
