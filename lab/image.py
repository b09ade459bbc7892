"""What takes long to make and serves every lab: the base image of the hosts, and a wheelhouse.

Both are made once and kept, under a name that says what they were made from.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from lab import disk, requirements
from lab.disk import python_version
from lab.errors import LabError
from lab.place import Place, cache
from lab.process import run
from lab.topology import ADMINISTRATOR
from runtime.cli.project import ROOT

_HOOK: Final = Path(__file__).with_name("image-hook.sh")
# A server as it is after installation, as far as it matters: nothing that only people look at.
_INSTALLED: Final = (
    *("ca-certificates", "dbus", "iproute2", "iputils-ping", "kmod", "libpam-systemd", "netbase"),
    *("nftables", "openssh-server", "procps", "python3", "sudo", "systemd-sysv", "udev"),
)
# What roles may install; apt on a host of the lab finds these and no others.
_INSTALLABLE: Final = (
    *("ethtool", "firewalld", "iperf3", "nfs-common", "nfs-kernel-server"),
    *("prometheus-node-exporter", "python3-apt", "samba", "tcpdump", "ufw"),
    "wireguard-tools",
)
_KERNELS: Final = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
VM_PACKAGES: Final = (
    *(_KERNELS.get(platform.freedesktop_os_release().get("ID", ""), "linux-image-generic"),),
    *("cifs-utils", "initramfs-tools", "nfs-common", "nfs-kernel-server", "wireguard-tools"),
    "zstd",
)
_UNREAD: Final = ("man", "doc", "locale", "info")
_BUILD_SECONDS: Final = 900


class Made(NamedTuple):
    """The directories of what was made.

    Attributes:
        base: the root of the hosts' disks.
        wheelhouse: downloaded requirements, where they are wanted.
        machine: where virtual machines are wanted: `upper`, a layer over the base, and the files
            `vmlinuz` and `initrd.img`.
    """

    base: Path
    wheelhouse: Path | None
    machine: Path | None


def prepare(say: Callable[[str], None], wheels: bool, vm: bool) -> Made:
    """Install and make what is missing; one who comes meanwhile waits, and finds it made.

    Raises:
        LabError: a program that makes it failed.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with _locked():
        installed = requirements.install(vm)
        if installed:
            say(f"installed the Debian packages {', '.join(installed)}")
        with ThreadPoolExecutor() as pool:
            base = pool.submit(_base, say)
            wheelhouse = pool.submit(_wheelhouse, say) if wheels else None
            machine = _machine(base.result(), say) if vm else None
            return Made(base.result(), wheelhouse.result() if wheelhouse else None, machine)


def remove() -> None:
    """Remove everything that was kept.

    Raises:
        LabError: a lab needs it.
    """
    labs = [record.parent.name for record in Place.records()]
    if labs:
        raise LabError(
            f"kept, because the hosts of these labs lie over it: {', '.join(labs)}",
            hint=f"./fleet lab down --lab {labs[0]} --cache",
        )
    shutil.rmtree(cache(), ignore_errors=True)


def _machine(base: Path, say: Callable[[str], None]) -> Path:
    def make(directory: Path) -> None:
        say("installing a kernel for the virtual machine")
        root = directory / "root"
        for name in ("upper", "work", "root"):
            (directory / name).mkdir()
        with disk.layered(directory, root, base):
            # mmdebstrap leaves no lists behind.
            run("chroot", root, "apt-get", "update", "--quiet")
            install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends")
            run(
                *("chroot", root, *install, *VM_PACKAGES),
                seconds=_BUILD_SECONDS,
                environment=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            )
            for name in ("vmlinuz", "initrd.img"):
                (found,) = (root / "boot").glob(f"{name}-*")
                shutil.copy(found, directory / name)

    return _kept("machine", (base.name, *VM_PACKAGES), make)


def _base(say: Callable[[str], None]) -> Path:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    packages = " ".join((*_INSTALLABLE, *VM_PACKAGES))
    made_from = (suite, platform.machine(), *_INSTALLED, packages, _HOOK.read_text())

    def make(directory: Path) -> None:
        say(f"building the hosts' base image ({suite})")
        sources = directory.with_suffix(".list")
        sources.write_text("\n".join(_sources()) + "\n")
        run(
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=Acquire::Retries "5"',
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNREAD),
            f"--include={','.join(_INSTALLED)}",
            f"--customize-hook={_HOOK}",
            *(suite, directory, sources),
            seconds=_BUILD_SECONDS,
            environment=os.environ | {"LAB_ADMINISTRATOR": ADMINISTRATOR, "LAB_PACKAGES": packages},
        )
        sources.unlink()
        _require_same_python(directory)

    return _kept("base", made_from, make)


def _wheelhouse(say: Callable[[str], None]) -> Path:
    locks = [ROOT / "requirements" / name for name in ("host.lock", "torch.txt")]
    made_from = (python_version(), platform.machine(), *(path.read_text() for path in locks))

    def make(directory: Path) -> None:
        say("downloading the requirements of a host")
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--dest", directory)
        run(
            *(*pip, "--no-deps", "--require-hashes", "--requirement", locks[0]),
            seconds=_BUILD_SECONDS,
        )
        # With what builds the requirements that come as source.
        run(
            *(*pip, "--find-links", directory, "--requirement", locks[1], "setuptools", "wheel"),
            seconds=_BUILD_SECONDS,
        )

    return _kept("wheelhouse", made_from, make)


def _kept(name: str, made_from: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """Return what was made from this before, or make it, in place of what was made from other."""
    digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
    kept = cache() / f"{name}-{digest}"
    if not kept.exists():
        for old in cache().glob(f"{name}-*"):
            if not _is_in_use(old):
                shutil.rmtree(old)
        # Under another name until it is complete.
        unfinished = cache() / f"{name}.unfinished"
        _clear(unfinished)
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(kept)
    return kept


def _is_in_use(kept: Path) -> bool:
    """Return whether the hosts of some lab lie over this."""
    return any(str(kept) in record.read_text() for record in Place.records())


def _clear(directory: Path) -> None:
    """Remove a directory, with what a program that was killed has left mounted below it."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed(mounted):
        if path.startswith(f"{directory}/"):
            run("umount", path)
    if directory.exists():
        shutil.rmtree(directory)


@contextmanager
def _locked() -> Iterator[None]:
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources() -> list[str]:
    """Return the machine's own sources of its distribution's packages, one per line.

    Raises:
        LabError: apt knows of none.
    """
    fields = ("REPO_URI", "RELEASE", "COMPONENT", "SIGNED_BY", "ORIGIN")
    layout = "\t".join(f"$({field})" for field in fields)
    command = ("apt-get", "indextargets", "--format", layout, "Identifier: Packages")
    found = run(*command)
    if "\tDebian" not in found and "\tUbuntu" not in found:
        run("apt-get", "update", "-qq", seconds=300)
        found = run(*command)
    lines = []
    for line in dict.fromkeys(found.splitlines()):
        uri, release, component, signed_by, origin = line.split("\t")
        if origin in ("Debian", "Ubuntu"):
            # What is not set is printed as it was asked for.
            options = "" if signed_by.startswith("$(") else f"[signed-by={signed_by}] "
            lines.append(f"deb {options}{uri} {release} {component}")
    if not lines:
        raise LabError("apt on this machine knows no source of Debian's or Ubuntu's packages")
    return lines


def _require_same_python(base: Path) -> None:
    """Refuse an image whose Python cannot run what is installed for this one."""
    (found,) = (path.name for path in (base / "usr" / "bin").glob("python3.*[0-9]"))
    if found != f"python{python_version()}":
        raise LabError(
            f"the hosts have {found}, this is Python {python_version()}",
            hint="remove .venv and set FLEET_PYTHON=/usr/bin/python3",
        )
