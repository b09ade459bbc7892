"""How much memory a server may still take: this host's, its control group's, or its GPU's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import torch

_PROC: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_V2 = ("memory.max", "memory.current", "")


def free_bytes(device: torch.device) -> int:
    """Return how many bytes can still be taken where blocks are computed.

    On a CPU this is what the kernel calls available, with the page cache, from which weights are
    read; a control group (a container, a unit with MemoryMax) may allow less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    groups = _PROC.read_text() if _PROC.is_file() else ""
    rooms = (int(psutil.virtual_memory().available), *group_rooms(groups, _GROUPS))
    return max(0, min(rooms))


def resident_bytes() -> int:
    """Return how many bytes this process has in memory."""
    return int(psutil.Process().memory_info().rss)


def group_rooms(groups: str, root: Path) -> tuple[int, ...]:
    """Return what each control group around this process still allows, if any allows less.

    Args:
        groups: the contents of /proc/self/cgroup.
        root: where control groups are mounted, of either version.
    """
    rooms: list[int] = []
    for line in groups.splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if controllers == "":
            rooms += _rooms(root, path, _V2)
        elif "memory" in controllers.split(","):
            rooms += _rooms(root / "memory", path, _V1)
    return tuple(rooms)


def _rooms(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Yield what a group and those around it still allow, as far as they can be seen."""
    limit_name, usage_name, prefix = names
    group = mount / path.lstrip("/")
    for directory in (group, *group.parents):
        if not directory.is_relative_to(mount):
            return
        limit, usage = (_number(directory / name) for name in (limit_name, usage_name))
        if limit is not None and usage is not None:
            yield limit - usage + _cached(directory / "memory.stat", prefix)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        # There is no such file in the outermost group, and `max` is no limit.
        return None


def _cached(path: Path, prefix: str) -> int:
    """Return how many bytes of files a group has in memory, which the kernel can take back."""
    wanted = (f"{prefix}active_file", f"{prefix}inactive_file")
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return sum(int(value) for name, value in lines if name in wanted)
    except (OSError, ValueError):
        return 0
