"""The model families that can be split, and where each keeps its parts."""

from typing import Final

from runtime.errors import ModelError
from runtime.spec.base import Frozen


class Architecture(Frozen):
    """Where a family keeps its parts: attribute names inside transformers' classes.

    Attributes:
        base: the attribute of the `...ForCausalLM` class that holds the base model.
        blocks: in the base model, the list of blocks.
        norm: in the base model, the final norm, which belongs to the head.
        tokens: in the base model, the token embedding.
        positions: in the base model, a learned position embedding that is added to the tokens'.
    """

    base: str = "model"
    blocks: str = "layers"
    norm: str = "norm"
    tokens: str = "embed_tokens"
    positions: str | None = None


_DECODER = Architecture()

# Every row is tested: any split gives the unsplit model's tokens. A family belongs here only if its
# base model does nothing to `inputs_embeds` before the first block (Granite scales them, so each
# span would scale them again) and its blocks do not ask which number they have.
SUPPORTED: Final = {
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
    "gpt2": Architecture(
        base="transformer", blocks="h", norm="ln_f", tokens="wte", positions="wpe"
    ),
    "llama": _DECODER,
    "mistral": _DECODER,
    "mixtral": _DECODER,
    "olmo2": _DECODER,
    "phi3": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "qwen3_moe": _DECODER,
    "smollm3": _DECODER,
}


def architecture(model_type: str) -> Architecture:
    """Return where models of this `model_type` (config.json) keep their parts.

    Raises:
        ModelError: the family is not supported.
    """
    try:
        return SUPPORTED[model_type]
    except KeyError:
        raise ModelError(
            f"models of type '{model_type}' are not supported",
            f"supported types: {', '.join(SUPPORTED)}",
        ) from None
