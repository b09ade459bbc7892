"""A throwaway copy of this machine's system: what is installed there is gone with it.

The copy is an overlay over the machine's own root in a mount namespace, so that nothing is
downloaded and nothing of the machine is written.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 60
# Of the machine itself, and of what the tests need of it.
_KERNEL = ("/proc", "/dev", "/sys")


class SystemCopy:
    """A copy; `run` runs commands in it."""

    def __init__(self, directory: Path, shared: Sequence[Path]) -> None:
        self._directory = directory
        self.root = directory / "root"
        script = [
            f"mount -t tmpfs none {directory}",
            f"mkdir {directory}/upper {directory}/work {self.root}",
            "mount -t overlay overlay -o lowerdir=/,upperdir="
            f"{directory}/upper,workdir={directory}/work {self.root}",
            *(f"mount --rbind {path} {self.root}{path}" for path in _KERNEL),
            *(f"mkdir -p {self.root}{path}" for path in shared),
            *(f"mount --bind {path} {self.root}{path}" for path in shared),
            "echo ready",
            "exec sleep infinity",
        ]
        directory.mkdir()
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "no copy of the system could be made"

    @property
    def within(self) -> tuple[str, ...]:
        """Return the command that runs commands in the copy."""
        target = f"--target={self._holder.pid}"
        return ("nsenter", target, "--mount", "--", "chroot", str(self.root))

    def run(self, *command: str) -> str:
        """Return what a command prints that runs in the copy."""
        return self.attempt(*command, check=True).stdout

    def attempt(self, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy."""
        return subprocess.run(
            [*self.within, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=check,
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the copy."""
        script = 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && chmod "$3" "$1"'
        self.run("sh", "-ec", script, "sh", path, text, f"{mode:o}")

    def put_over(self, path: str, file: Path) -> None:
        """Let a file of this machine, which the copy shares, be in place of a path of the copy."""
        target = f"--target={self._holder.pid}"
        where = f"{self.root}{path}"
        command = ["nsenter", target, "--mount", "--", "mount", "--bind", str(file), where]
        subprocess.run(command, timeout=_SECONDS, check=True)

    def close(self) -> None:
        """Take the copy away."""
        self._holder.kill()
        self._holder.wait(_SECONDS)
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def obstacle() -> str:
    """Return why no copy can be made here, or nothing."""
    if os.geteuid() != 0:
        return "a copy of the system needs root"
    lacking = [
        name for name in ("unshare", "nsenter", "dpkg-deb", "gpg") if shutil.which(name) is None
    ]
    return f"not installed: {', '.join(lacking)}" if lacking else ""
