"""Configs: cut to a span without losing what each block is."""

import pytest
import torch

from runtime.errors import ModelError
from runtime.model.architecture import SUPPORTED, architecture
from runtime.model.skeleton import empty_model, file_of, max_length, span_config
from runtime.spec.base import Span
from tests.support.models import BLOCKS, tiny_config

# Lists in a config that have nothing to do with blocks, whatever their length.
NOT_PER_BLOCK = {"architectures", "eos_token_id", "mlp_only_layers"}


@pytest.mark.parametrize("family", SUPPORTED)
def test_every_list_with_one_entry_per_block_is_cut(family: str) -> None:
    config = tiny_config(family)
    cut = span_config(config, Span(start=1, end=3)).to_dict()
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == BLOCKS and name not in NOT_PER_BLOCK:
            assert cut[name] == value[1:3], name
    assert cut[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] == 2
    assert config.num_hidden_layers == BLOCKS


@pytest.mark.parametrize("family", SUPPORTED)
def test_every_tensor_has_its_file(family: str) -> None:
    model = empty_model(tiny_config(family), torch.float32)
    files = {file_of(name, architecture(family)) for name in model.state_dict()}
    blocks = {f"block-{block:04d}.safetensors" for block in range(BLOCKS)}
    assert files == {"embeddings.safetensors", "head.safetensors", *blocks}
    with pytest.raises(ModelError, match="belongs to no block"):
        file_of("model.vision.weight", architecture(family))


@pytest.mark.parametrize(
    ("rope", "wanted"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 256),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 256),
        (
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 64,
            },
            64,
        ),
    ],
)
def test_positions_that_would_change_later_limit_the_length(
    rope: dict[str, object], wanted: int
) -> None:
    assert max_length(tiny_config("llama", rope_parameters=rope)) == wanted


def test_an_unsupported_family_names_the_supported_ones() -> None:
    with pytest.raises(ModelError, match="'bert' are not supported") as caught:
        architecture("bert")
    assert "llama" in caught.value.hint
    assert "gpt2" in caught.value.hint
