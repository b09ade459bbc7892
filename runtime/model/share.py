"""A model on another host's disk: read under watch, compared with its manifest, kept locally.

Whoever reads a file of a share waits in the kernel for as long as its server is silent. So reading
is done by a thread of its own, and whoever waits for it gives up when nothing has come for a while.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from runtime.errors import ModelError
from runtime.model.check import BadFile
from runtime.model.going import Going
from runtime.model.manifest import MANIFEST, ModelFile, read_manifest
from runtime.spec.base import Span

_CHUNK_BYTES: Final = 4 << 20
_SHOWN: Final = 5
# Enough of a model's digest to tell it from every other that a host has had.
_DIGEST_LETTERS: Final = 16
_SPARE_BYTES: Final = 64 << 20

Result = TypeVar("Result")
Tick = Callable[[], None]


def watched(work: Callable[[Tick], Result], seconds: float, directory: Path) -> Result:
    """Return what `work` returns, which says by calling its argument that it goes on.

    Args:
        work: reads something of a share; it is left to itself when it stands still, and ends with
            the process.
        seconds: how long it may stand still.
        directory: what is read, for the error.

    Raises:
        ModelError: it stood still for too long; and whatever `work` raises.
    """
    changed = threading.Condition()
    last = time.monotonic()
    outcome: list[Result] = []
    problem: list[BaseException] = []

    def tick() -> None:
        nonlocal last
        with changed:
            last = time.monotonic()

    def run() -> None:
        try:
            outcome.append(work(tick))
        except BaseException as error:
            problem.append(error)
        with changed:
            changed.notify_all()

    threading.Thread(target=run, name="share", daemon=True).start()
    with changed:
        while not outcome and not problem:
            left = last + seconds - time.monotonic()
            if left <= 0:
                raise ModelError(
                    f"{directory}: nothing could be read for {seconds:g} s",
                    "the host that shares it is silent: see that it runs and is reached; what was "
                    "read so far is kept where a local cache is",
                )
            changed.wait(left)
    if problem:
        raise problem[0]
    return outcome[0]


def local_model(
    directory: Path,
    span: Span,
    *,
    embeddings: bool,
    cache: Path | None,
    seconds: float,
    going: Going = lambda: None,
) -> Path:
    """Return a directory from which a span can be loaded whose files are as the manifest says.

    Args:
        directory: the model, on a share.
        span: the blocks to be served.
        embeddings: see `Manifest.files_for`.
        cache: where to keep what was read; None: nowhere, and `directory` is returned.
        seconds: how long reading may stand still.
        going: called for every piece that is read; what it raises ends this.

    Raises:
        ModelError: the server is silent, files are not as the manifest says (each is named), or
            there is no room for them.
    """

    def work(came: Tick) -> Path:
        def tick() -> None:
            came()
            going()

        manifest = read_manifest(directory)
        files = manifest.files_for(span, embeddings=embeddings)
        if cache is None:
            _refuse(
                directory, [bad for file in files for bad in _read(directory, file, None, tick)]
            )
            return directory
        kept = cache / manifest.digest[:_DIGEST_LETTERS]
        kept.mkdir(parents=True, exist_ok=True)
        lacking = [file for file in files if not _is_kept(kept, file)]
        _require_room(kept, lacking)
        bad = [one for file in lacking for one in _read(directory, file, kept, tick)]
        _refuse(directory, bad)
        _write(kept / MANIFEST, manifest.model_dump_json(indent=2).encode())
        _forget_others(cache, kept)
        return kept

    return watched(work, seconds, directory)


def _is_kept(kept: Path, file: ModelFile) -> bool:
    # It got its name once its contents were those of the manifest.
    path = kept / file.name
    return path.is_file() and path.stat().st_size == file.bytes


def _read(directory: Path, file: ModelFile, kept: Path | None, tick: Tick) -> Iterator[BadFile]:
    """Read a file to its end, into `kept` where there is one; yield what is wrong with it."""
    unfinished = Path(os.devnull)
    if kept is not None:
        target = kept / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Its own: one that was given up may still be waited for, and go on later.
        own = f"{os.getpid()}-{threading.get_ident()}"
        unfinished = target.with_name(f".{target.name}.{own}")
    try:
        count, digest = _copied(directory / file.name, unfinished, tick)
        if count != file.bytes:
            yield BadFile(file.name, f"has {count} bytes instead of {file.bytes}")
        elif digest != file.sha256:
            yield BadFile(file.name, "has other contents than the manifest says (sha256)")
        elif kept is not None:
            unfinished.rename(kept / file.name)
    except FileNotFoundError:
        yield BadFile(file.name, "is missing")
    except OSError as error:
        yield BadFile(file.name, f"cannot be read: {error.strerror or error}")
    finally:
        if kept is not None:
            unfinished.unlink(missing_ok=True)


def _copied(source: Path, target: Path, tick: Tick) -> tuple[int, str]:
    """Copy a file and return how many bytes it has, and their sha256."""
    found, count = hashlib.sha256(), 0
    # Without a buffer: what is read goes straight into the piece.
    with source.open("rb", buffering=0) as file, target.open("wb") as copy:
        piece = memoryview(bytearray(_CHUNK_BYTES))
        while size := file.readinto(piece):
            tick()
            found.update(piece[:size])
            count += size
            copy.write(piece[:size])
        if target != Path(os.devnull):
            copy.flush()
            os.fsync(copy.fileno())
            tick()
    return count, found.hexdigest()


def _refuse(directory: Path, bad: list[BadFile]) -> None:
    if bad:
        more = f" (and {len(bad) - _SHOWN} more files)" if len(bad) > _SHOWN else ""
        raise ModelError(
            f"model {directory}: "
            + "; ".join(f"{name} {problem}" for name, problem in bad[:_SHOWN])
            + more,
            "it changed while it was read, or was damaged: wait until whoever imports it has "
            "finished, or import it again (stagefleet model verify names all files)",
        )


def _require_room(kept: Path, files: list[ModelFile]) -> None:
    needed = sum(file.bytes for file in files)
    free = shutil.disk_usage(kept).free
    if needed and needed + _SPARE_BYTES > free:
        raise ModelError(
            f"{kept} has room for {free >> 20} MiB, and what is to be kept there of the model "
            f"takes {needed >> 20} MiB",
            "make room there, or set fleet.model.local_cache to false",
        )


def _forget_others(cache: Path, kept: Path) -> None:
    """Remove what was kept of models that are served no more; who has it open keeps it."""
    for other in cache.iterdir():
        if other != kept and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.rename(path)
