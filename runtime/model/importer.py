"""Import: turn a checkpoint into a model directory with one file per block."""

import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Final, NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from runtime.errors import ModelError
from runtime.model.architecture import architecture
from runtime.model.check import check_model, sha256_of
from runtime.model.checkpoint import CheckpointSource
from runtime.model.destination import refuse_foreign, written_whole
from runtime.model.dtype import DTYPES, dtype_name
from runtime.model.gguf_file import GgufSource
from runtime.model.hub import download, is_hub_id
from runtime.model.manifest import (
    EMBEDDINGS,
    FORMAT,
    HEAD,
    INDEX,
    MANIFEST,
    Manifest,
    ModelFile,
    Origin,
    WantedDtype,
    block_file,
)
from runtime.model.sample import sample_gguf
from runtime.model.skeleton import empty_model, file_of, max_length
from runtime.model.source import Reader, Source, fingerprint, some
from runtime.model.tensor_file import write_tensors

Report = Callable[[str, int, int], None]
"""Called after each file of tensors with its name, the bytes done and the bytes in all."""

# Room for the config, the tokenizer and the manifest beside the tensors.
_TEXT_BYTES: Final = 64 << 20


class Imported(NamedTuple):
    """A model directory, and whether this import made it or found it already there."""

    manifest: Manifest
    changed: bool


def find_source(text: str, fetch: Callable[[str], Path] = download) -> Source:
    """Return the checkpoint that an operator names.

    Args:
        text: a GGUF file, a Hugging Face directory, a model of the hub as OWNER/MODEL or
            OWNER/MODEL@REVISION, or `sample` for the demonstration model.
        fetch: downloads a model of the hub and returns its directory.

    Raises:
        ModelError: it is none of these, or cannot be imported.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return CheckpointSource(path)
    if path.is_file() and path.suffix == ".gguf":
        return GgufSource(path)
    if path.exists():
        raise ModelError(
            f"{path} is no model that can be imported",
            "name a .gguf file or a Hugging Face directory with safetensors files",
        )
    if text == "sample":
        return GgufSource(sample_gguf())
    if is_hub_id(text) and path.suffix != ".gguf":
        return CheckpointSource(fetch(text), name=text.partition("@")[0].rpartition("/")[2])
    raise ModelError(f"there is no {text}", "name a GGUF file, a directory or OWNER/MODEL")


def import_model(
    source: Source,
    destination: Path,
    *,
    dtype: WantedDtype = "auto",
    name: str | None = None,
    force: bool = False,
    report: Report = lambda _file, _done, _total: None,
) -> Imported:
    """Write a model directory, or find that the same import was done before.

    At no time is more than one block, or one embedding, in memory. The directory appears under its
    name when it is complete; until then it is `DESTINATION.partial`.

    Args:
        source: what to import.
        destination: the model directory.
        dtype: the number format to store; auto: the source's.
        name: what the model is called; default: the source's name.
        force: replace a model directory that holds something else.
        report: is told about the progress.

    Raises:
        ModelError: the source is not a whole, supported model; the destination is something else;
            or the disk is too small.
    """
    name = name or source.name
    mark = fingerprint(source, FORMAT, transformers.__version__)
    refuse_foreign(destination)
    if not force and (found := _imported_before(destination, mark, name, dtype)):
        return Imported(found, changed=False)

    stored = dtype_name(source.dtype)
    chosen = stored if dtype == "auto" else dtype
    origin = Origin(kind=source.kind, dtype=stored, fingerprint=mark)
    model = empty_model(source.config, DTYPES[chosen])
    readers = source.readers(model)
    files = _files(model, readers)
    _check_space(destination, sum(map(_bytes, files.values())))
    try:
        with written_whole(destination) as partial:
            _write_tensors(partial, files, readers, report)
            _write_texts(partial, source, model, files)
            manifest = _manifest(partial, name, origin, model, files)
            (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{destination} cannot be written: {error}", "check its permissions and the disk"
        ) from error
    return Imported(manifest, changed=True)


def _imported_before(
    destination: Path, mark: str, name: str, dtype: WantedDtype
) -> Manifest | None:
    """Return the manifest if this very import was done before, None if nothing is there.

    Raises:
        ModelError: the directory holds another import or is damaged.
    """
    if not (destination / MANIFEST).exists():
        return None
    try:
        manifest = check_model(destination)
    except ModelError as error:
        raise ModelError(
            f"{destination} holds a damaged model: {error.args[0]}", "replace it with --force"
        ) from None
    origin = manifest.origin
    wanted = (mark, name, origin.dtype if dtype == "auto" else dtype)
    if (origin.fingerprint, manifest.name, manifest.dtype) != wanted:
        raise ModelError(
            f"{destination} holds another import: {manifest.name}, {manifest.dtype}",
            "name another directory, or replace it with --force",
        )
    return manifest


def _files(model: PreTrainedModel, readers: Mapping[str, Reader]) -> dict[str, dict[str, Tensor]]:
    """Return, for each file to write, its tensors' names and (on the meta device) their shapes.

    Raises:
        ModelError: the checkpoint lacks a tensor.
    """
    family = architecture(model.config.model_type)
    tied = model.all_tied_weights_keys
    wanted = {key: value for key, value in model.state_dict().items() if key not in tied}
    if missing := wanted.keys() - readers.keys():
        raise ModelError(
            f"the checkpoint lacks tensors of a {model.config.model_type} model: {some(missing)}",
            "is it complete? download it again",
        )
    files: dict[str, dict[str, Tensor]] = {EMBEDDINGS: {}, HEAD: {}}
    for key, value in wanted.items():
        files.setdefault(file_of(key, family), {})[key] = value
    return files


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _check_space(destination: Path, tensor_bytes: int) -> None:
    parent = next(path for path in destination.absolute().parents if path.exists())
    needed, free = tensor_bytes + _TEXT_BYTES, shutil.disk_usage(parent).free
    if free < needed:
        raise ModelError(
            f"{parent} has {free / 1e9:.2f} GB free; the model needs {needed / 1e9:.2f} GB",
            "free some space or name a directory on another disk",
        )


def _write_tensors(
    directory: Path,
    files: Mapping[str, Mapping[str, Tensor]],
    readers: Mapping[str, Reader],
    report: Report,
) -> None:
    done, total = 0, sum(map(_bytes, files.values()))
    for name, shapes in files.items():
        # No name holds the tensors of one file while those of the next are read.
        write_tensors(
            directory / name,
            {key: _read(key, readers[key], wanted) for key, wanted in shapes.items()},
        )
        done += _bytes(shapes)
        report(name, done, total)


def _read(key: str, reader: Reader, wanted: Tensor) -> Tensor:
    """Read a tensor and give it the shape and number format it should have.

    Raises:
        ModelError: it has another shape, or numbers that the format cannot hold.
    """
    tensor = reader()
    if tensor.shape != wanted.shape:
        raise ModelError(
            f"{key} has shape {tuple(tensor.shape)}; by the config it should have "
            f"{tuple(wanted.shape)}"
        )
    result = tensor.to(wanted.dtype).contiguous()
    if wanted.dtype is torch.float16 and not bool(result.isfinite().all()):
        raise ModelError(f"{key} has numbers too large for float16", "use --dtype bfloat16")
    return result


def _write_texts(
    directory: Path,
    source: Source,
    model: PreTrainedModel,
    files: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write everything that is no tensor, so that transformers can load the directory too."""
    config = deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(directory)
    source.write_texts(directory)
    if not (directory / "generation_config.json").exists():
        GenerationConfig.from_model_config(config).save_pretrained(directory)
    try:
        AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for one cause: an unusable file
        raise ModelError(f"the tokenizer cannot be loaded: {error}") from error
    index = {
        "metadata": {"total_size": sum(map(_bytes, files.values()))},
        "weight_map": {key: name for name, keys in files.items() for key in keys},
    }
    (directory / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


def _manifest(
    directory: Path,
    name: str,
    origin: Origin,
    model: PreTrainedModel,
    files: Mapping[str, Mapping[str, Tensor]],
) -> Manifest:
    config = model.config
    blocks = range(config.num_hidden_layers)
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    manifest = Manifest(
        name=name,
        origin=origin,
        model_type=config.model_type,
        total_blocks=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        max_length=max_length(config),
        dtype=dtype_name(model.dtype),
        tied=bool(model.all_tied_weights_keys),
        block_bytes=tuple(_bytes(files[block_file(block)]) for block in blocks),
        embeddings_bytes=_bytes(files[EMBEDDINGS]),
        head_bytes=_bytes(files[HEAD]),
        files=tuple(
            ModelFile(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
            for path in paths
        ),
    )
    return manifest.model_copy(update={"digest": manifest.compute_digest()})
