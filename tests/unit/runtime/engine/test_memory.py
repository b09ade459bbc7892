"""How much memory is left, as control groups of both versions say it."""

from pathlib import Path

import torch

from runtime.engine.memory import free_bytes, group_rooms, resident_bytes

GIB = 1 << 30


def group(directory: Path, limit: str, usage: int, files: int, *, first: bool = False) -> None:
    """Write what the kernel would say of a control group."""
    directory.mkdir(parents=True, exist_ok=True)
    limit_name, usage_name, prefix = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        if first
        else ("memory.max", "memory.current", "")
    )
    (directory / limit_name).write_text(f"{limit}\n")
    (directory / usage_name).write_text(f"{usage}\n")
    stat = f"anon 1\n{prefix}active_file {files}\n{prefix}inactive_file {files}\nshmem 7\n"
    (directory / "memory.stat").write_text(stat)


def test_every_group_around_the_process_counts_and_files_can_be_taken_back(tmp_path: Path) -> None:
    group(tmp_path / "fleet.slice", str(8 * GIB), 5 * GIB, GIB)
    group(tmp_path / "fleet.slice" / "stage.service", "max", GIB, 0)
    found = group_rooms("0::/fleet.slice/stage.service\n", tmp_path)
    assert found == (5 * GIB,)


def test_a_container_sees_its_own_limit_at_the_top(tmp_path: Path) -> None:
    group(tmp_path, str(4 * GIB), GIB, 0)
    assert group_rooms("0::/\n", tmp_path) == (3 * GIB,)
    # The path may be the host's, where the container cannot look.
    assert group_rooms("0::/docker/abc\n", tmp_path) == (3 * GIB,)


def test_the_first_version_is_read_too(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "a", str(4 * GIB), 2 * GIB, GIB // 2, first=True)
    assert group_rooms("5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n", tmp_path) == (3 * GIB,)


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    assert group_rooms("", tmp_path) == ()
    assert group_rooms("0::/nowhere\n4:memory:/nowhere\n", tmp_path) == ()


def test_this_host_has_memory() -> None:
    assert free_bytes(torch.device("cpu")) > 0
    assert resident_bytes() > 10 << 20
