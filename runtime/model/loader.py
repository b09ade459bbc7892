"""Load one span: transformers' own modules, with this span's tensors and nothing else in memory."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from runtime.errors import ModelError
from runtime.model.architecture import architecture
from runtime.model.going import Going
from runtime.model.manifest import EMBEDDINGS, HEAD, block_file, read_manifest
from runtime.model.skeleton import empty_model, read_config, span_config
from runtime.model.tensor_file import is_aligned
from runtime.spec.base import Span


@dataclass(frozen=True)
class SpanModel:
    """The parts of a model that one server computes.

    Attributes:
        config: of a model that has only the span's blocks.
        blocks: the base model without its edges: `inputs_embeds` pass through the blocks alone.
        tokens: the token embedding, if this server has the embeddings.
        positions: the learned position embedding, if the family has one and this server embeds.
        head: the `...ForCausalLM` whose base model is only the final norm, if this server has the
            head: `inputs_embeds` become logits exactly as in the whole model.
        block_list: the attribute of `blocks` that lists them.
    """

    config: PreTrainedConfig
    blocks: PreTrainedModel
    tokens: nn.Module | None
    positions: nn.Module | None
    head: PreTrainedModel | None
    block_list: str

    def part(self, span: Span) -> PreTrainedModel:
        """Return `blocks` without those outside of `span`, sharing everything with it.

        Its config is that of a model with the part's blocks only. The blocks themselves still name
        their places in a cache as in `blocks`.

        Args:
            span: counted from the first block that is loaded.
        """
        part = copy.copy(self.blocks)
        # A copy shares the very dictionary of its children; setting a child would set both's.
        part.__dict__["_modules"] = dict(self.blocks._modules)
        setattr(part, self.block_list, getattr(self.blocks, self.block_list)[span.start : span.end])
        part.config = span_config(self.blocks.config, span)
        return part


class _Normed(NamedTuple):
    """A base model's output as the heads read it."""

    last_hidden_state: Tensor
    past_key_values: None = None
    hidden_states: None = None
    attentions: None = None
    cross_attentions: None = None
    router_logits: None = None


class _FinalNorm(nn.Module):
    """Stands in the head for the base model: the blocks were run elsewhere."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> _Normed:
        return _Normed(self.norm(inputs_embeds))


class _NoPositions(nn.Module):
    """Stands in the blocks for a position embedding: it was added when the tokens were embedded."""

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros((), device=position_ids.device)


def load_span(
    directory: Path,
    span: Span,
    *,
    embeddings: bool,
    head: bool,
    device: torch.device,
    dtype: torch.dtype,
    going: Going,
) -> SpanModel:
    """Return the span's modules with their weights on `device`.

    On a CPU and without a change of `dtype` the weights stay in the page cache: they are mapped,
    not copied, if their file is aligned (`runtime.model.tensor_file`). Otherwise one file at a time
    is converted. Before each block `going` is called; what it raises ends this.

    Raises:
        ModelError: the directory does not hold what its manifest says.
    """
    manifest = read_manifest(directory)
    family = architecture(manifest.model_type)
    config = span_config(read_config(directory), span)
    causal = empty_model(config, dtype)
    base = getattr(causal, family.base)
    norm, tokens = getattr(base, family.norm), getattr(base, family.tokens)
    positions = getattr(base, family.positions) if family.positions else None
    output = causal.get_output_embeddings()

    def read(name: str) -> dict[str, Tensor]:
        return _read(directory / name, device, dtype)

    for index, block in enumerate(getattr(base, family.blocks)):
        going()
        number = span.start + index
        _fill(block, f"{family.base}.{family.blocks}.{number}.", read(block_file(number)))
    edge = read(EMBEDDINGS) if embeddings or (head and manifest.tied) else {}
    if embeddings:
        _fill(tokens, f"{family.base}.{family.tokens}.", edge)
        if positions is not None:
            _fill(positions, f"{family.base}.{family.positions}.", edge)
    if head:
        last = read(HEAD)
        _fill(norm, f"{family.base}.{family.norm}.", last)
        if manifest.tied:
            last["lm_head.weight"] = edge[f"{family.base}.{family.tokens}.weight"]
        _fill(output, "lm_head.", last)

    # What belongs to an edge leaves the base model, and what this server does not have is dropped.
    setattr(base, family.norm, nn.Identity())
    setattr(base, family.tokens, nn.Identity())
    if family.positions is not None:
        setattr(base, family.positions, _NoPositions())
    setattr(causal, family.base, _FinalNorm(norm))
    model = SpanModel(
        config=config,
        blocks=base,
        tokens=tokens if embeddings else None,
        positions=positions if embeddings else None,
        head=causal if head else None,
        block_list=family.blocks,
    )
    for module in (model.blocks, model.tokens, model.head):
        if module is not None:
            _fill_buffers(module, causal, device)
    return model


def _read(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: _aligned(file.get_tensor(name).to(dtype)) for name in file.keys()}  # noqa: SIM118  safe_open is no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}", f"stagefleet model verify {path.parent} finds why"
        ) from None


def _aligned(tensor: Tensor) -> Tensor:
    """Return a tensor where every kernel reads it alike: itself, mostly, or a copy."""
    return tensor if is_aligned(tensor) else tensor.clone()


def _fill(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Give a module its weights: those of `tensors` whose names begin with `prefix`.

    They keep `requires_grad`, as after `from_pretrained`: torch picks its kernel for a product by
    it, and another kernel rounds otherwise.
    """
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    try:
        module.load_state_dict(own, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"the tensors of {prefix}* do not fit the model's config: {error}",
            "import the model again with --force",
        ) from None
    for weight in module.parameters():
        # transformers then leaves it alone when it initialises the module's buffers below.
        weight._is_hf_initialized = True  # type: ignore[attr-defined]  # transformers' own mark


def _fill_buffers(module: nn.Module, owner: PreTrainedModel, device: torch.device) -> None:
    """Compute the buffers that no file holds (rotary frequencies, Gemma's scale).

    Args:
        module: whose buffers are on the meta device.
        owner: the transformers model that knows how to initialise them.
        device: where they are needed.
    """
    for child in module.modules():
        missing = [name for name, value in child.named_buffers(recurse=False) if value.is_meta]
        for name in missing:
            setattr(child, name, torch.empty_like(getattr(child, name), device=device))
        if missing:
            owner._init_weights(child)
