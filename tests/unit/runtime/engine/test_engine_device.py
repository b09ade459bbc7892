"""Which device an engine takes."""

import pytest
import torch

from runtime.engine.device import resolve_device
from runtime.errors import ConfigError


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert resolve_device("auto") == torch.device("cpu")
    gpus(monkeypatch, 1)
    assert resolve_device("auto") == torch.device("cuda", 0)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(ConfigError, match="finds no CUDA GPU") as caught:
        resolve_device("cuda:1")
    assert "nvidia-smi" in caught.value.hint
    gpus(monkeypatch, 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="this host has 2 GPUs"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "meta", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        resolve_device(name)
