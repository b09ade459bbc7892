"""Disks: how much room the fleet's directories have, how quick they are, and the model's files."""

import contextlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_MOST_BYTES = 64 * 2**20
_MOST_SECONDS = 1.0
_CHUNK = 4 * 2**20
_ENOUGH_FREE = 4 * _MOST_BYTES


def seen(asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the file system of each directory; of one that is not there, that of its parent."""
    mounts = _mounts()
    found = []
    for use, text in asked.items():
        path = Path(text).expanduser()
        below = _existing(path)
        room = os.statvfs(below)
        mount, kind, options = _mount_of(below, mounts)
        found.append(
            {
                "use": use,
                "path": str(path),
                "mount": mount,
                "kind": kind,
                "read_only": "ro" in options,
                "total": room.f_blocks * room.f_frsize,
                "free": room.f_bavail * room.f_frsize,
                "files": room.f_files,
                "files_free": room.f_favail,
            }
        )
    return found


def speeds(asked: Mapping[str, str]) -> dict[str, Any]:
    """Return how quickly a directory's disk writes, and how quickly a model's files are read."""
    return {
        name: measured
        for name, measure in (("write", _written), ("read", _read))
        if name in asked and (measured := measure(_existing(Path(asked[name]).expanduser())))
    }


def model(asked: str) -> dict[str, Any]:
    """Return what is in a model's directory: its manifest, and the files it names that lack."""
    directory = Path(asked).expanduser()
    manifest = directory / "stagefleet.json"
    found: dict[str, Any] = {"path": str(directory), "there": directory.is_dir()}
    try:
        content = json.loads(manifest.read_text())
        files = {each["name"]: each["bytes"] for each in content["files"]}
        found["blocks"] = content["block_bytes"]
        found["edges"] = [content["embeddings_bytes"], content["head_bytes"]]
        found["dtype"] = content["dtype"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return found | {"problem": f"{manifest}: {error}"}
    wrong = [name for name, size in files.items() if _size(directory / name) != size]
    return found | {"wrong_files": wrong}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _mounts() -> list[tuple[str, str, set[str]]]:
    """Return the mount points with their kinds and options, as mountinfo has them: proc(5)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        own, _, shared = line.partition(" - ")
        fields, more = own.split(), shared.split()
        point = fields[4].encode().decode("unicode_escape")
        found.append((point, more[0], {*fields[5].split(","), *more[2].split(",")}))
    return found


def _mount_of(path: Path, mounts: Iterable[tuple[str, str, set[str]]]) -> tuple[str, str, set[str]]:
    real = path.resolve()
    around = [each for each in mounts if real.is_relative_to(each[0])]
    # The last one that was mounted there hides the others.
    return max(reversed(around), key=lambda each: len(each[0]), default=("/", "", set()))


def _written(directory: Path) -> dict[str, float] | None:
    """Write to a file without a name, which is gone whatever happens, until it is on the disk."""
    directory = directory if directory.is_dir() else directory.parent
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < _ENOUGH_FREE:
        return None
    chunk = os.urandom(_CHUNK)
    count = 0
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        start = time.monotonic()
        while count < _MOST_BYTES and time.monotonic() - start < _MOST_SECONDS:
            count += file.write(chunk)
            os.fdatasync(file.fileno())
        return {"bytes": count, "seconds": time.monotonic() - start}
    return None


def _read(directory: Path) -> dict[str, Any] | None:
    """Read the largest files past the memory that caches them, where the file system allows it."""
    files = [each for each in directory.glob("*.safetensors") if each.is_file()]
    files.sort(key=lambda each: -each.stat().st_size)
    count, seconds, direct = 0, 0.0, True
    buffer = mmap.mmap(-1, _CHUNK)  # aligned, as O_DIRECT asks for
    for path in files:
        with contextlib.suppress(OSError):
            part, took, past = _read_file(path, buffer, _MOST_SECONDS - seconds)
            count, seconds, direct = count + part, seconds + took, direct and past
        if seconds >= _MOST_SECONDS or count >= _MOST_BYTES:
            break
    return {"bytes": count, "seconds": seconds, "direct": direct} if count else None


def _read_file(path: Path, buffer: mmap.mmap, most: float) -> tuple[int, float, bool]:
    try:
        opened, direct = os.open(path, os.O_RDONLY | os.O_DIRECT), True
    except OSError:
        opened, direct = os.open(path, os.O_RDONLY), False
        os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        start, count = time.monotonic(), 0
        while time.monotonic() - start < most and count < _MOST_BYTES:
            part = os.readv(opened, [buffer])
            if not part:
                break
            count += part
        return count, time.monotonic() - start, direct
    finally:
        os.close(opened)
