"""GPUs: what the bus, the driver and torch say of them, word by word."""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.checks.doctor.on_host.machine import said

_NVIDIA = "0x10de"
QUERY = "index,name,driver_version,memory.total,memory.used,compute_cap"
_TORCH_SECONDS = 90
_ASK_TORCH = """
import json, torch
there = torch.cuda.is_available()
print(json.dumps({
    "available": there,
    "count": torch.cuda.device_count() if there else 0,
    "architectures": torch.cuda.get_arch_list() if there else [],
}))
"""


def seen(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what programs print about GPUs; `runtime.checks.doctor.gpus` reads it.

    Args:
        asked: "units", the files that describe services, by which their Python is found; "ask",
            whether torch is asked whether it can use a GPU.
    """
    _, bus = said("lspci", "-nn", "-d", "10de:")
    _, query = said("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
    _, table = said("nvidia-smi")
    driver = Path("/proc/driver/nvidia/version")
    python = _python(asked["units"])
    return {
        "bus": bus or "\n".join(_cards()),
        "query": query,
        "table": table,
        "kernel_driver": driver.read_text() if driver.exists() else "",
        "nouveau": Path("/sys/module/nouveau").exists(),
        "torch": _torch(python, bool(asked["ask"])) if python else None,
    }


def _cards() -> list[str]:
    """Return NVIDIA's display controllers as lspci writes them, for hosts without lspci."""
    found = []
    for device in sorted(Path("/sys/bus/pci/devices").glob("*")):
        with contextlib.suppress(OSError):
            kind = (device / "class").read_text().strip()
            if (device / "vendor").read_text().strip() == _NVIDIA and kind.startswith("0x03"):
                number = (device / "device").read_text().strip()[2:]
                found.append(
                    f"{device.name} display controller [{kind[2:6]}]: NVIDIA Corporation Device "
                    f"[10de:{number}]"
                )
    return found


def _python(units: list[str]) -> str | None:
    """Return the Python of the services that these files describe, of systemd or supervisord."""
    for text in units:
        with contextlib.suppress(OSError):
            found = re.search(
                r"^(?:ExecStart|command) *= *\"?([^\s\"]+)",
                Path(text).expanduser().read_text(),
                re.MULTILINE,
            )
            if found:
                return found[1]
    return None


def _torch(python: str, ask: bool) -> dict[str, Any]:
    """Return torch's own words; its files are read, unless a GPU asks for more."""
    found: dict[str, Any] = {"python": python, "version": "", "cuda": None, "answer": None}
    for path in Path(python).parent.parent.glob("lib/python3*/site-packages/torch/version.py"):
        text = path.read_text()
        for key, pattern in (
            ("version", r"^__version__ = '([^']+)'"),
            ("cuda", r"^cuda[^=]*= '([^']+)'"),
        ):
            match = re.search(pattern, text, re.MULTILINE)
            found[key] = match[1] if match else found[key]
    if ask:
        code, answer = said(python, "-c", _ASK_TORCH, seconds=_TORCH_SECONDS)
        lines = answer.strip().splitlines()
        with contextlib.suppress(ValueError):
            return found | {"answer": json.loads(lines[-1]) if code == 0 and lines else None}
    return found
