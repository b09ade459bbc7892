"""A directory that appears only when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.errors import ModelError
from runtime.model.manifest import MANIFEST

_LOCK: Final = ".lock"


def refuse_foreign(destination: Path) -> None:
    """Refuse to write where something else than a model directory is.

    Raises:
        ModelError: the path is a file, or a directory with contents that no import wrote.
    """
    if not destination.exists() or (destination / MANIFEST).exists():
        return
    if not destination.is_dir() or any(destination.iterdir()):
        raise ModelError(
            f"{destination} exists and is not a model directory; it is left alone",
            "name a new directory",
        )


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """Give an empty `DESTINATION.partial` to write into; rename it when the body is done.

    If the body fails nothing remains; if the process is killed the next import starts afresh.

    Raises:
        ModelError: another import is writing to the same place.
    """
    partial = destination.with_name(destination.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"another import is writing {destination}", "wait for it") from None
        for path in partial.iterdir():
            if path.name != _LOCK:
                _remove(path)
        try:
            yield partial
        except BaseException:  # an interrupt too
            shutil.rmtree(partial)
            raise
        for path in partial.iterdir():
            # safetensors makes files for the owner only, but a server has its own user.
            path.chmod(os.fstat(lock.fileno()).st_mode)
            _sync(path)
        (partial / _LOCK).unlink()
        _replace(destination, partial)


def _replace(destination: Path, partial: Path) -> None:
    """Put the new directory in the place of the old one; servers keep the files they have open."""
    old = destination.with_name(destination.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if destination.exists():
        destination.rename(old)
    partial.rename(destination)
    _sync(destination.parent)
    if old.exists():
        shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    """Make sure that a file's contents or a directory's entries outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
