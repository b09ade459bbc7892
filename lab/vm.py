"""A host in a virtual machine: a kernel of its own, in software emulation, so it runs anywhere.

Slow, but it can do what containers on this machine's kernel cannot: load modules, serve and mount
NFS, delay packets, set every sysctl.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab import disk, network
from lab.machine import Machine
from lab.process import run, start
from lab.ssh import ssh

_MEMORY_MIB: Final = 1024
# With several, emulated processors wait for each other, for seconds where this machine is busy.
_CORES: Final = 1
# Before a login is given up: an emulated machine may be silent for longer than networks allow.
_LOGIN_TRIES: Final = 20
_DISK: Final = "4G"
# Locally administered, so that no card ever sold has one of these.
_MAC: Final = "52:54:00:00:{host:02x}:{card:02x}"


@dataclass(frozen=True)
class VirtualMachine(Machine):
    """A host with a kernel of its own.

    Attributes:
        layers: the directories that its disk is made of, the uppermost first.
        boot_files: the directory with its kernel and initial file system.
    """

    layers: tuple[Path, ...]
    boot_files: Path

    def boot(self) -> None:
        """Plug its cables in and switch it on; a host that has no disk yet gets one."""
        if self.group.processes():
            return
        image = self.directory / "disk.ext4"
        if not image.exists():
            self._make_disk(image)
        network.disconnect(self.place, self.lab, self.host)
        network.connect_taps(self.place, self.lab, self.host)
        home = self.lab.network(self.host.nics[0].network).home
        qemu = network.inside(self.place, home, *self._qemu(image))
        start(self.group.joined(*qemu), self.console_log)

    def shut_down(self) -> None:
        """Ask it to end."""
        run(*self.command("systemctl", "poweroff", "--no-block"), seconds=60)

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a command in it, as root."""
        options = ("-l", "root", "-o", f"ConnectionAttempts={_LOGIN_TRIES}")
        return ssh(self.place, self.host.name, *command, options=options)

    def _make_disk(self, image: Path) -> None:
        root = self.directory / "root"
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        with disk.layered(self.directory, root, *self.layers):
            disk.write(root, self.place, self.lab, self.host)
            for number, nic in enumerate(self.host.nics):
                link = root / "etc" / "systemd" / "network" / f"{number}-{nic.interface}.link"
                link.write_text(
                    f"[Match]\nMACAddress={self._mac(number)}\n\n[Link]\nName={nic.interface}\n"
                )
            unfinished = image.with_suffix(".unfinished")
            with contextlib.suppress(FileNotFoundError):
                unfinished.unlink()
            run("truncate", "--size", _DISK, unfinished)
            run("mkfs.ext4", "-q", "-F", "-d", root, unfinished, seconds=300)
            unfinished.rename(image)

    def _qemu(self, image: Path) -> list[str]:
        cards: list[str] = []
        for number, nic in enumerate(self.host.nics):
            port = network.port_of(self.lab, self.host, nic.network)
            mtu = self.lab.network(nic.network).mtu
            cards += [
                *("-netdev", f"tap,id=n{number},ifname={port},script=no,downscript=no"),
                "-device",
                f"virtio-net-pci,netdev=n{number},mac={self._mac(number)},host_mtu={mtu}",
            ]
        return [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"),
            *("-cpu", "max", "-smp", str(_CORES), "-m", str(_MEMORY_MIB), "-nographic"),
            *("-kernel", str(self.boot_files / "vmlinuz")),
            *("-initrd", str(self.boot_files / "initrd.img")),
            *("-append", "root=/dev/vda rw console=ttyS0 mitigations=off quiet"),
            *("-drive", f"file={image},if=virtio,format=raw"),
            *cards,
        ]

    def _mac(self, card: int) -> str:
        number = [host.name for host in self.lab.hosts].index(self.host.name)
        return _MAC.format(host=number, card=card)
