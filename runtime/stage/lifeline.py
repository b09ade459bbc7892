"""What must not outlive a server dies with it, however it dies.

hivemind's libp2p daemon goes on for ever when its parent is killed with SIGKILL, and would hold the
port against the server's next start. systemd kills the whole control group; other supervisors see
only the process they started. So each server keeps one small shell that waits on a pipe for the
server's end, in whatever way it comes, and then kills the processes it was told about.
"""

import os
import signal
import subprocess
from types import TracebackType
from typing import Self

import psutil

# Every line names a process; the pipe ends with the server, whose kernel closes it.
_SCRIPT = 'pids=""; while read -r pid; do pids="$pids $pid"; done; kill -KILL $pids 2>/dev/null'


class Lifeline:
    """Kills the children of this process when this process ends."""

    def __enter__(self) -> Self:
        """Start the watcher."""
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            # A terminal's Ctrl-C goes to the whole group; the watcher has to stay until the end.
            start_new_session=True,
        )
        return self

    def hold(self) -> None:
        """Let every present child of this process end with it."""
        if self._watcher.stdin is None:
            raise RuntimeError("the watcher has no pipe")
        for child in psutil.Process(os.getpid()).children(recursive=True):
            if child.pid != self._watcher.pid:
                self._watcher.stdin.write(f"{child.pid}\n".encode())
        self._watcher.stdin.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the watcher: after an orderly end the children are gone already."""
        self._watcher.send_signal(signal.SIGKILL)
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()
        self._watcher.wait()
