"""A host in a container: systemd as its first process, a disk and a network of its own."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from lab import disk, network
from lab.errors import LabError
from lab.machine import Machine
from lab.process import run, start

_RUNNER: Final = Path(__file__).with_name("container.sh")
# A host's own firewall, tunnels, port captures and quotas.
_CAPABILITIES: Final = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_SYS_RESOURCE,CAP_DAC_READ_SEARCH"


@dataclass(frozen=True)
class Container(Machine):
    """A host that shares this machine's kernel.

    Attributes:
        base: the image that its disk lies over.
        shown: directories of this machine that it sees, read-only, by where it sees them.
        lent: directories of which it has a copy, as far as it can see: what it changes is its own.
    """

    base: Path
    shown: dict[str, Path]
    lent: dict[str, Path]

    def boot(self) -> None:
        """Plug its cables in and switch it on; a host that has no disk yet gets one."""
        if self.group.processes():
            return
        if not disk.exists(self.directory):
            disk.create(self.directory)
            with disk.mounted(self.directory, self.base) as root:
                disk.write(root, self.place, self.lab, self.host)
                for there in (*self.shown, *self.lent):
                    (root / there.lstrip("/")).mkdir(parents=True, exist_ok=True)
        network.disconnect(self.place, self.lab, self.host)
        network.connect(self.place, self.lab, self.host)
        runner = ("unshare", "--mount", "--propagation", "private", str(_RUNNER))
        place = (str(self.base), str(self.directory), self.group.name)
        start([*runner, *place, *self._nspawn_arguments()], self.console_log)

    def shut_down(self) -> None:
        """Ask it to end."""
        run(*self.command("systemctl", "poweroff", "--no-block"), seconds=20)

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command in it, as root and not through its network."""
        return [
            *("nsenter", "--target", str(self._leader()), "--mount", "--uts", "--ipc", "--net"),
            *("--pid", "--cgroup", "--", *command),
        ]

    def _nspawn_arguments(self) -> list[str]:
        return [
            # It is nobody's business but the lab's.
            *("--quiet", "--register=no", "--keep-unit", "--boot", f"--machine={self.host.name}"),
            *("--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe"),
            "--kill-signal=SIGRTMIN+3",
            f"--network-namespace-path=/run/netns/{self.place.namespace(self.host.name)}",
            f"--capability={_CAPABILITIES}",
            # For file servers and packet filters.
            "--system-call-filter=open_by_handle_at @keyring bpf",
            *(f"--bind={path}" for path in ("/dev/net/tun", "/dev/fuse") if Path(path).exists()),
            *(f"--bind-ro={here}:{there}" for there, here in self.shown.items()),
            *(
                f"--overlay={here}:{self.directory / 'disk' / 'shared'}:{there}"
                for there, here in self.lent.items()
            ),
        ]

    def _leader(self) -> int:
        """Return the process id, on this machine, of the host's first process."""
        for process in self.group.processes():
            with contextlib.suppress(psutil.Error):
                if process.name() == "systemd-nspawn":
                    for child in process.children():
                        if child.name() == "systemd":
                            return child.pid
        raise LabError(
            f"host {self.host.name} is off; the end of its console:\n{self.console()}",
            hint=f"./fleet lab boot {self.host.name}",
        )
