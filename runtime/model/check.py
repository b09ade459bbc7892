"""Whether a model directory can be served: all files there, whole and, if asked, unchanged."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import ModelError
from runtime.model.architecture import architecture
from runtime.model.manifest import Manifest, ModelFile, read_manifest
from runtime.spec.base import Span


class BadFile(NamedTuple):
    """A file that is not as the manifest says."""

    name: str
    problem: str


def check_model(
    directory: Path,
    span: Span | None = None,
    *,
    embeddings: bool | None = None,
    head: bool | None = None,
    deep: bool = False,
) -> Manifest:
    """Return the manifest of a directory from which `span` can be served.

    Args:
        directory: an imported model.
        span: the blocks to be served; None: everything.
        embeddings: see `Manifest.files_for`.
        head: see `Manifest.files_for`.
        deep: compare contents, not only sizes; reads every byte.

    Raises:
        ModelError: the directory is missing, not imported, of a newer or unsupported kind, or a
            file of the span is missing, truncated or changed.
    """
    manifest = read_manifest(directory)
    architecture(manifest.model_type)
    files = (
        manifest.files
        if span is None
        else manifest.files_for(span, embeddings=embeddings, head=head)
    )
    bad = list(bad_files(directory, files, deep=deep))
    if bad:
        more = f" (and {len(bad) - 3} more files)" if len(bad) > 3 else ""
        raise ModelError(
            f"model {directory}: "
            + "; ".join(f"{name} {problem}" for name, problem in bad[:3])
            + more,
            "copy the named files again from the host that imported them, or import again",
        )
    return manifest


def bad_files(
    directory: Path,
    files: Iterable[ModelFile],
    *,
    deep: bool,
    report: Callable[[ModelFile], None] = lambda _: None,
) -> Iterator[BadFile]:
    """Yield each of the files that is missing or has another size or, if `deep`, other contents."""
    for file in files:
        path = directory / file.name
        if not path.is_file():
            yield BadFile(file.name, "is missing")
        elif (size := path.stat().st_size) != file.bytes:
            yield BadFile(file.name, f"has {size} bytes instead of {file.bytes}")
        elif deep and sha256_of(path) != file.sha256:
            yield BadFile(file.name, "has other contents than when it was imported (sha256)")
        report(file)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
