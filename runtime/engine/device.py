"""Where an engine computes."""

import os
from pathlib import Path
from typing import Final

import torch

from runtime.errors import ConfigError

_CPU_INFO: Final = Path("/proc/cpuinfo")


def device_name(device: torch.device) -> str:
    """Return what a device is sold as; a CPU with how many of its cores this process may use."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, 'cpu')}, {len(os.sched_getaffinity(0))} cores"


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: it asks for a GPU that this host or this build of torch does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"device '{name}' is unknown", "use auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device '{name}' was asked for, but torch {torch.__version__} finds no CUDA GPU",
            "check `nvidia-smi` and that torch was installed for this GPU, or use device: cpu",
        )
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}' was asked for, but this host has {torch.cuda.device_count()} GPUs",
            f"use cuda:0 to cuda:{torch.cuda.device_count() - 1}",
        )
    return torch.device("cuda", index)
