"""The Debian packages that a lab needs on this machine."""

import os
import shutil
from typing import Final

from lab.errors import LabError
from lab.process import run

# The program that shows that a package is installed, and the package.
CONTAINERS: Final = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "apt-ftparchive": "apt-utils",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "nsenter": "util-linux",
}
MACHINES: Final = {"qemu-system-x86_64": "qemu-system-x86", "mkfs.ext4": "e2fsprogs"}


def missing(vm: bool) -> list[str]:
    """Return the packages that are not installed yet."""
    wanted = CONTAINERS | (MACHINES if vm else {})
    # Not everybody's PATH has the administrator's programs.
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    return [package for program, package in wanted.items() if not shutil.which(program, path=path)]


def obstacle(vm: bool = False) -> str | None:
    """Return why a lab cannot be built here and what to do about it, or None if it can be."""
    if not shutil.which("apt-get"):
        return (
            "a lab needs Debian or Ubuntu: it builds its hosts from the machine's own apt sources"
        )
    lacking = missing(vm)
    if os.geteuid() != 0:
        first = f"; first: sudo apt-get install {' '.join(lacking)}" if lacking else ""
        return (
            f"a lab needs root, for network namespaces and containers: sudo ./fleet lab up{first}"
        )
    return None


def install(vm: bool) -> list[str]:
    """Install what is missing and return its names.

    Raises:
        LabError: this is not possible here.
    """
    reason = obstacle(vm)
    if reason:
        raise LabError(reason)
    lacking = missing(vm)
    if lacking:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", seconds=300, environment=environment)
        run(
            *("apt-get", "install", "--yes", "--no-install-recommends", *lacking),
            seconds=900,
            environment=environment,
        )
    return lacking
