"""What a model directory holds: one file per block, the two edges, and `stagefleet.json`."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from runtime.errors import ModelError
from runtime.spec.base import Frozen, Span, words

FORMAT: Final = 2
MANIFEST: Final = "stagefleet.json"
CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"
EMBEDDINGS: Final = "embeddings.safetensors"
HEAD: Final = "head.safetensors"

_IMPORT_AGAIN: Final = "import the model again with --force, or copy the directory again"

Dtype = Literal["float32", "bfloat16", "float16"]
WantedDtype = Literal["auto", Dtype]
"""A number format, or the one the source has."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def block_file(block: int) -> str:
    """Return the name of the file that holds one block's tensors."""
    return f"block-{block:04d}.safetensors"


class ModelFile(Frozen):
    """One file of the directory."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")
    bytes: int = Field(ge=0)
    sha256: Sha256


class Origin(Frozen):
    """What a directory was imported from.

    Attributes:
        kind: the form of the checkpoint.
        dtype: the number format that `--dtype auto` means for it.
        fingerprint: tells whether it is still the same checkpoint.
    """

    kind: Literal["gguf", "huggingface"]
    dtype: Dtype
    fingerprint: Sha256


class Manifest(Frozen):
    """Everything about a model that can be known without loading it; sizes are in bytes.

    Attributes:
        max_length: tokens of one sequence that the model was made for.
        tied: the head uses the embeddings' tensor, so the last stage needs that file too.
        block_bytes: the tensors of each block.
        digest: sha256 of everything here that decides what the model computes, that is all but
            `name`, `origin` and itself. Stages with the same digest serve the same model.
    """

    format: int = Field(default=FORMAT, ge=1)
    name: str = Field(min_length=1, max_length=200)
    origin: Origin
    model_type: str
    total_blocks: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    max_length: int = Field(ge=1)
    dtype: Dtype
    tied: bool
    block_bytes: tuple[int, ...]
    embeddings_bytes: int = Field(ge=0)
    head_bytes: int = Field(ge=0)
    files: tuple[ModelFile, ...]
    digest: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.block_bytes) != self.total_blocks:
            raise ValueError(
                f"block_bytes has {len(self.block_bytes)} entries for {self.total_blocks} blocks"
            )
        listed = {file.name for file in self.files}
        needed = {CONFIG, EMBEDDINGS, HEAD, *map(block_file, range(self.total_blocks))}
        if missing := sorted(needed - listed):
            raise ValueError(f"files lists no {missing[0]}")
        return self

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)

    def compute_digest(self) -> str:
        """Return what `digest` has to be."""
        content = self.model_dump(mode="json", exclude={"name", "origin", "digest"})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def files_for(
        self, span: Span, *, embeddings: bool | None = None, head: bool | None = None
    ) -> tuple[ModelFile, ...]:
        """Return the files that a server of `span` needs, config first.

        Args:
            span: the blocks it serves; may be empty.
            embeddings: it turns token ids into hidden states; default: it serves block 0.
            head: it turns hidden states into logits; default: it serves the last block.

        Raises:
            ModelError: the span reaches past the model.
        """
        if span.end > self.total_blocks:
            raise ModelError(
                f"span {span} reaches past the model's {self.total_blocks} blocks",
                "correct the splits, or import the model they were made for",
            )
        embeddings = span.start == 0 if embeddings is None else embeddings
        head = span.end == self.total_blocks if head is None else head
        wanted = {CONFIG, *map(block_file, range(span.start, span.end))}
        if embeddings or (head and self.tied):
            wanted.add(EMBEDDINGS)
        if head:
            wanted.add(HEAD)
        if embeddings:  # stage 0 also needs the tokenizer and the generation settings
            wanted.update(file.name for file in self.files if _is_text(file.name))
        return tuple(file for file in self.files if file.name in wanted)


def _is_text(name: str) -> bool:
    return not name.endswith(".safetensors") and name != INDEX


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a model directory.

    Raises:
        ModelError: there is no such directory, it was not imported, or its manifest is damaged or
            of a newer version.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise ModelError(
            f"there is no model directory {directory}",
            f"import a model: stagefleet model import SOURCE {directory}",
        )
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise ModelError(
            f"{directory} has no {MANIFEST}, so it is not an imported model",
            f"import it: stagefleet model import {directory} DESTINATION",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", _IMPORT_AGAIN) from None
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ModelError(
            f"{path} has format {version}; this stagefleet reads up to {FORMAT}",
            "update stagefleet on this host",
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(str(words(error, Manifest, str(path))), _IMPORT_AGAIN) from None
    if manifest.digest != manifest.compute_digest():
        raise ModelError(f"{path} was changed: its digest does not fit it", _IMPORT_AGAIN)
    return manifest
