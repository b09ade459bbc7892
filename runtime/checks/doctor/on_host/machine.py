"""The machine itself: system, kernel modules, clock, memory."""

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SECONDS = 10
# Of adjtimex(2): what it returns and the flag it sets while nothing corrects the clock.
_TIME_ERROR, _STA_UNSYNC = 5, 0x0040
_KEEPERS = ("chronyd", "systemd-timesyn", "ntpd", "ntpsec", "openntpd")


class _Timex(ctypes.Structure):
    """The first fields of the kernel's `struct timex`, and room for the others."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


def said(*command: str, seconds: float = _SECONDS) -> tuple[int | None, str]:
    """Return how a program ends and what it prints; None where it is not there or hangs."""
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    environment |= {"LC_ALL": "C.UTF-8"}
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        return None, ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"{' '.join(command)} has not ended within {seconds:.0f} s"
    return done.returncode, done.stdout


def seen(_asked: object) -> dict[str, Any]:
    """Return the system, its kernel and its first process."""
    release: dict[str, str] = {}
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
    return {
        "system": release.get("ID", platform.system().lower()),
        "version": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", platform.platform()),
        "kernel": platform.release(),
        "processor": platform.machine(),
        "python": list(sys.version_info[:3]),
        "init": Path("/proc/1/comm").read_text().strip(),
        "cores": os.cpu_count() or 1,
    }


def modules(asked: Iterable[str]) -> dict[str, Any]:
    """Return how the running kernel has each of these modules: "" where nothing shows it."""
    directory = Path("/lib/modules", platform.release())
    loadable = _names(directory / "modules.dep")
    built_in = _names(directory / "modules.builtin")
    shown = _shown()
    found = {}
    for name in asked:
        word = name.replace("-", "_")
        if Path("/sys/module", word).exists():
            found[name] = "present"
        elif word in built_in:
            found[name] = "built in"
        elif word in shown:
            found[name] = "present"
        else:
            found[name] = "loadable" if word in loadable else ""
    return {"has_directory": bool(loadable or built_in), "modules": found}


def _names(path: Path) -> set[str]:
    """Return the modules of one of depmod's lists."""
    if not path.exists():
        return set()
    lines = path.read_text(errors="replace").splitlines()
    files = (line.partition(":")[0].rpartition("/")[2] for line in lines)
    return {file.partition(".ko")[0].replace("-", "_") for file in files}


def _shown() -> set[str]:
    """Return the modules that show what they do: of parts of a kernel that list nothing."""
    found = set()
    for line in Path("/proc/filesystems").read_text().splitlines():
        name = line.split()[-1]
        found |= {name, "nfsv4"} if name == "nfs4" else {name}
    control = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    if control.exists():
        found |= {f"tcp_{name}" for name in control.read_text().split()}
    if Path("/dev/net/tun").exists():
        found.add("tun")
    if said("nft", "list", "tables")[0] == 0:
        found.add("nf_tables")
    return found


def clock(_asked: object) -> dict[str, Any]:
    """Return whether something corrects the clock, by the kernel's word, and which program."""
    status: dict[str, Any] = {"synchronised": None, "error_seconds": None}
    with contextlib.suppress(AttributeError):
        timex = _Timex(modes=0)
        code = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
        if code >= 0:
            unsynchronised = code == _TIME_ERROR or bool(timex.status & _STA_UNSYNC)
            status = {
                "synchronised": not unsynchronised,
                "error_seconds": timex.maxerror / 1e6,
            }
    running = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            running.add(path.read_text().strip())
    return {**status, "keepers": sorted(running.intersection(_KEEPERS))}


def memory(_asked: object) -> dict[str, int]:
    """Return the memory in bytes: of the machine, of its control group, and what is left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    total = found["MemTotal"]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()))
    return {
        "total": total,
        "available": min(found["MemAvailable"], total),
        "swap": found["SwapTotal"],
    }
