"""Control groups: all processes of a host, or of a helper, as one thing to see, freeze and end."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

# Machines that mix the old hierarchies with the unified one have it in the first place.
_ROOTS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


@dataclass(frozen=True)
class Group:
    """One control group.

    Attributes:
        name: its path below the root of the unified hierarchy.
    """

    name: str

    @property
    def path(self) -> Path:
        """Its directory on this machine."""
        return next(root for root in _ROOTS if (root / "cgroup.procs").exists()) / self.name

    def joined(self, *command: str) -> list[str]:
        """Return the command that runs a command as a member of the group."""
        join = 'mkdir -p "$0" && echo "$$" >"$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", join, str(self.path), *command]

    def processes(self) -> list[psutil.Process]:
        """Return the processes in it and below it."""
        found = []
        # Not glob: groups come and go meanwhile, which os.walk takes as it is.
        for directory, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                for pid in Path(directory, "cgroup.procs").read_text().split():
                    with contextlib.suppress(psutil.Error):
                        found.append(psutil.Process(int(pid)))
        return found

    def kill(self) -> None:
        """End all of them at once, without asking."""
        self._write("cgroup.kill", "1")

    def freeze(self, frozen: bool) -> None:
        """Let none of them run, or all of them go on."""
        self._write("cgroup.freeze", "1" if frozen else "0")

    def is_frozen(self) -> bool:
        """Return whether `freeze` holds."""
        path = self.path / "cgroup.freeze"
        return path.exists() and path.read_text().strip() == "1"

    def is_empty_within(self, seconds: float) -> bool:
        """Return whether the last process has ended, after waiting for that no longer than this."""
        deadline = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)  # the kernel tells nobody; the deadline ends this
        return True

    def remove(self, seconds: float = 10) -> None:
        """Remove it and those below it, of which every process must have ended.

        Raises:
            OSError: one of them is still in use after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self.path.exists():
            try:
                for directory, _, _ in os.walk(self.path, topdown=False):
                    Path(directory).rmdir()
            except OSError:
                # A process that has ended is a member until the kernel has tidied up behind it.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # between two tries; the deadline ends them

    def _write(self, file: str, value: str) -> None:
        path = self.path / file
        if path.exists():
            path.write_text(value)
