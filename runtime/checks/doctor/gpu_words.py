"""What lspci, nvidia-smi and the kernel's driver print, read into records."""

import csv
import re
from typing import Final

from runtime.spec.base import Frozen

# Display controllers of every kind: PCI class 03.
_CARD: Final = re.compile(
    r"^(?P<slot>[0-9a-f:.]+) .*\[03[0-9a-f]{2}\]: (?P<name>.*?) ?\[10de:(?P<id>[0-9a-f]{4})\]",
    re.MULTILINE,
)
_CUDA: Final = re.compile(r"CUDA(?: UMD)? Version: *(\d+)\.(\d+)")
_MODULE: Final = re.compile(r"NVRM version:.*?(\d+\.\d+(?:\.\d+)?)")
# In nvidia-smi's own words, what makes the driver useless.
_TROUBLE: Final = (
    "NVIDIA-SMI has failed",
    "Failed to initialize NVML",
    "No devices were found",
    "couldn't communicate",
    "has not ended within",
)
_FIELDS: Final = 6


class BusCard(Frozen):
    """An NVIDIA card on the bus; `device` is its PCI id, such as "2204"."""

    slot: str
    name: str
    device: str


class Gpu(Frozen):
    """A GPU that the driver answers for; memory in MiB, None where it does not say."""

    index: int
    name: str
    driver: str
    memory_mib: int | None
    used_mib: int | None
    capability: tuple[int, int] | None


def bus_cards(text: str) -> tuple[BusCard, ...]:
    """Return the cards in what `lspci -nn -d 10de:` prints."""
    return tuple(
        BusCard(slot=found["slot"], name=found["name"].strip(), device=found["id"])
        for found in _CARD.finditer(text)
    )


def gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs in what `nvidia-smi --query-gpu` prints as CSV; its complaints are none."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == _FIELDS and row[0].strip().isdigit():
            index, name, driver, memory, used, capability = (each.strip() for each in row)
            pair = re.fullmatch(r"(\d+)\.(\d+)", capability)
            found.append(
                Gpu(
                    index=int(index),
                    name=name,
                    driver=driver,
                    memory_mib=int(memory) if memory.isdigit() else None,
                    used_mib=int(used) if used.isdigit() else None,
                    capability=(int(pair[1]), int(pair[2])) if pair else None,
                )
            )
    return tuple(found)


def driver_cuda(text: str) -> tuple[int, int] | None:
    """Return the newest CUDA that the driver supports, by the head of nvidia-smi's table."""
    found = _CUDA.search(text)
    return (int(found[1]), int(found[2])) if found else None


def module_version(text: str) -> str:
    """Return the version of the kernel's module by /proc/driver/nvidia/version, or nothing."""
    found = _MODULE.search(text)
    return found[1] if found else ""


def trouble(text: str) -> str:
    """Return nvidia-smi's complaint, its first line, or nothing."""
    if any(each in text for each in _TROUBLE):
        return next(line.strip() for line in text.splitlines() if line.strip())
    return ""


def runs_on(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Return whether a build of torch has code for a card.

    Machine code ("sm_86") runs on cards of the same major version that are as new or newer; code
    for later compilation ("compute_90") on every newer card (CUDA's programming guide says so).
    """
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = re.match(r"\d+", number)
        if not digits:
            continue
        made_for = (int(digits[0][:-1] or 0), int(digits[0][-1]))
        if kind == "sm" and made_for[0] == capability[0] and made_for[1] <= capability[1]:
            return True
        if kind == "compute" and made_for <= capability:
            return True
    return False
