"""What every host of a lab can do, whatever carries it."""

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from lab import network
from lab.cgroup import Group
from lab.errors import LabError
from lab.place import Place
from lab.topology import Host, Topology

_STOP_SECONDS: Final = 90


@dataclass(frozen=True)
class Machine(ABC):
    """One host of a lab."""

    place: Place
    lab: Topology
    host: Host

    @abstractmethod
    def boot(self) -> None:
        """Plug its cables in and switch it on; a host that has no disk yet gets one."""

    @abstractmethod
    def shut_down(self) -> None:
        """Ask it to end."""

    @abstractmethod
    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command in it, as root."""

    @property
    def directory(self) -> Path:
        """Its disk, and its console's log."""
        return self.place.host(self.host.name)

    @property
    def console_log(self) -> Path:
        """What it has printed on its console."""
        return self.directory / "console.log"

    @property
    def group(self) -> Group:
        """All of its processes."""
        return self.place.group(self.host.name)

    def stop(self) -> None:
        """Shut it down in good order; one that does not listen is switched off."""
        with contextlib.suppress(LabError):
            self.shut_down()
            self.group.is_empty_within(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Cut its power: to others it falls silent in the middle of a word."""
        # First the cables: a kernel would otherwise close the connections of what it kills.
        network.disconnect(self.place, self.lab, self.host)
        self.group.kill()
        if not self.group.is_empty_within(_STOP_SECONDS):
            raise LabError(
                f"host {self.host.name} has not ended within {_STOP_SECONDS} s; "
                f"the end of its console:\n{self.console()}"
            )

    def pause(self) -> None:
        """Freeze it: connections to it stay open, and nothing answers."""
        self.group.freeze(True)

    def resume(self) -> None:
        """Let it go on."""
        self.group.freeze(False)

    def state(self) -> str:
        """Return "off", "running" or "paused"."""
        if not self.group.processes():
            return "off"
        return "paused" if self.group.is_frozen() else "running"

    def memory_mib(self) -> int:
        """Return the memory of its processes; what several share is counted for each of them."""
        total = 0
        for process in self.group.processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total // 2**20

    def console(self, lines: int = 20) -> str:
        """Return the end of what it has printed on its console."""
        text = self.console_log.read_text(errors="replace") if self.console_log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
