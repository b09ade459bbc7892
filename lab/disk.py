"""What an installer leaves behind on a host's disk: its name, addresses, keys and accounts."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab.place import Place
from lab.process import run
from lab.topology import ADMINISTRATOR, Host, Topology

_SIZE: Final = "16G"
_IMAGE: Final = "disk.ext4"


def exists(directory: Path) -> bool:
    """Return whether a host has a disk."""
    return (directory / _IMAGE).exists()


def create(directory: Path) -> None:
    """Make an empty disk: a file that takes no room until the host writes."""
    for name in ("disk", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{_IMAGE}.unfinished"
    run("truncate", "--size", _SIZE, unfinished)
    # No reserve: through the overlay, everybody would write as root, and no disk would be full.
    lazily = "lazy_itable_init=1,lazy_journal_init=1"
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazily, unfinished)
    unfinished.rename(directory / _IMAGE)


@contextmanager
def mounted(directory: Path, base: Path) -> Iterator[Path]:
    """Yield the root of a host that is off: its own disk over the base image."""
    # The same mounts as container.sh makes.
    run("mount", "-o", "loop", directory / _IMAGE, directory / "disk")
    try:
        for name in ("upper", "work", "shared"):
            (directory / "disk" / name).mkdir(exist_ok=True)
        with layered(directory / "disk", directory / "root", base):
            yield directory / "root"
    finally:
        run("umount", directory / "disk")


@contextmanager
def layered(own: Path, root: Path, *below: Path) -> Iterator[None]:
    """Mount a directory's `upper` over others, the uppermost of them first."""
    layers = f"lowerdir={':'.join(map(str, below))},upperdir={own / 'upper'},workdir={own / 'work'}"
    run("mount", "-t", "overlay", "overlay", "-o", layers, root)
    try:
        yield
    finally:
        run("umount", root)


def write(root: Path, place: Place, lab: Topology, host: Host) -> None:
    """Write a host's own files below the root of its disk."""
    etc = root / "etc"
    _put(etc / "hostname", f"{host.name}\n")
    known = [f"{_own(other)} {other.name}" for other in lab.hosts]
    _put(etc / "hosts", "\n".join(["127.0.0.1 localhost", *known]) + "\n")
    for card, (name, text) in enumerate(networkd_files(lab, host).items()):
        _put(etc / "systemd" / "network" / f"{card}-{name}.network", text)
    _put(etc / "ssh" / "sshd_config.d" / "port.conf", f"Port {host.ssh_port}\n")
    key = place.ssh / "hosts" / host.name
    _put(etc / "ssh" / "ssh_host_ed25519_key", key.read_text(), mode=0o600)
    for home, owner in (("root", 0), (f"home/{ADMINISTRATOR}", 1000)):
        _put(
            root / home / ".ssh" / "authorized_keys",
            (place.ssh / "key.pub").read_text(),
            mode=0o600,
            owner=owner,
        )
    if host.environment:
        write_environment(root / host.environment.lstrip("/"))


def networkd_files(lab: Topology, host: Host) -> dict[str, str]:
    """Return the configuration of each of a host's network cards, by the card's name."""
    found = {}
    for nic in host.nics:
        network = lab.network(nic.network)
        gateway = f"Gateway={network.gateway}\n" if network.gateway else ""
        found[nic.interface] = (
            f"[Match]\nName={nic.interface}\n\n"
            f"[Link]\nMTUBytes={network.mtu}\n\n"
            # Without a router that advertises itself, networkd would wait for one.
            f"[Network]\nAddress={nic.address}\n{gateway}IPv6AcceptRA=no\n"
        )
    return found


def write_environment(directory: Path) -> None:
    """Write a virtual environment of the host's Python, with a place for its packages."""
    _put(directory / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    packages(directory).mkdir(parents=True, exist_ok=True)
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("python", "python3"):
        link = programs / name
        link.unlink(missing_ok=True)
        link.symlink_to("/usr/bin/python3")


def python_version() -> str:
    """Return the major and minor version of the Python that runs this: "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def packages(environment: Path) -> Path:
    """Return where a virtual environment has its packages."""
    return environment / "lib" / f"python{python_version()}" / "site-packages"


def _own(host: Host) -> str:
    return host.nics[0].address.partition("/")[0]


def _put(path: Path, text: str, mode: int = 0o644, owner: int = 0) -> None:
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    for one in (path, *made):
        os.chown(one, owner, owner)
