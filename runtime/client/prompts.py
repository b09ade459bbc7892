"""From prompts to a padded batch of token ids, and what ends a text."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from runtime.client.request import GenerationRequest
from runtime.errors import ModelError, RequestError


@dataclass(frozen=True)
class Batch:
    """Token ids `[batch, tokens]` with `padding` positions at the start of each row."""

    ids: Tensor
    padding: tuple[int, ...]

    @property
    def prompt_tokens(self) -> tuple[int, ...]:
        """How many tokens each prompt has."""
        return tuple(self.ids.shape[1] - padding for padding in self.padding)


class Tokenizer:
    """A model's tokenizer, its chat template and its end-of-text tokens."""

    def __init__(self, directory: Path) -> None:
        """Load them from a model directory.

        Raises:
            ModelError: the directory has no tokenizer that can be used.
        """
        try:
            self.fast = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"the tokenizer in {directory} cannot be loaded: {error}") from error
        if not isinstance(self.fast, PreTrainedTokenizerFast):
            raise ModelError(f"the tokenizer in {directory} has no tokenizer.json")
        self.eos = _end_tokens(directory, self.fast)
        self.pad = self.fast.pad_token_id or next(iter(self.eos), 0)

    def batch(self, request: GenerationRequest) -> Batch:
        """Return the prompts of a request as token ids, padded on the left to one length.

        Raises:
            RequestError: a prompt has no tokens, or the model has no usable chat template.
        """
        rows = [self._chat(request)] if request.messages else self._rows(request.prompts)
        if any(not row for row in rows):
            raise RequestError("a prompt has no tokens", hint="write at least one word")
        longest = max(len(row) for row in rows)
        padding = tuple(longest - len(row) for row in rows)
        padded = [[self.pad] * count + row for count, row in zip(padding, rows, strict=True)]
        return Batch(torch.tensor(padded, dtype=torch.int64), padding)

    def _rows(self, prompts: tuple[str, ...]) -> list[list[int]]:
        return [list(self.fast(prompt)["input_ids"]) for prompt in prompts]

    def _chat(self, request: GenerationRequest) -> list[int]:
        if self.fast.chat_template is None:
            raise RequestError(
                "the model has no chat template", hint="send a plain prompt instead of messages"
            )
        turns = [message.model_dump() for message in request.messages]
        try:
            text = self.fast.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError) as error:
            raise RequestError(
                f"the model's chat template refuses the messages: {error}"
            ) from error
        return list(self.fast(text, add_special_tokens=False)["input_ids"])


def _end_tokens(directory: Path, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the tokens that end a text, as the model's own generation settings name them."""
    try:
        settings = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        settings = {}
    named = settings.get("eos_token_id")
    if named is None:
        named = tokenizer.eos_token_id
    if named is None:
        return frozenset()
    return frozenset(named if isinstance(named, list) else [named])
