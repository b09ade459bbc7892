"""What GPUs' programs print, in samples of several generations, and what follows from it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checks.doctor.finding import Finding, Verdict
from runtime.checks.doctor.gpu_words import (
    bus_cards,
    driver_cuda,
    gpus,
    module_version,
    runs_on,
    trouble,
)
from tests.support.doctor import a_fleet, judged, well

BUS = {
    "pascal": "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GP102 "
    "[GeForce GTX 1080 Ti] [10de:1b06] (rev a1)",
    "turing": "00:1e.0 3D controller [0302]: NVIDIA Corporation TU104GL [Tesla T4] [10de:1eb8] "
    "(rev a1)",
    "ampere": "0a:00.0 VGA compatible controller [0300]: NVIDIA Corporation GA102 "
    "[GeForce RTX 3090] [10de:2204] (rev a1)\n"
    "0a:00.1 Audio device [0403]: NVIDIA Corporation GA102 High Definition Audio Controller "
    "[10de:1aef] (rev a1)",
    "hopper": "0000:19:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] "
    "[10de:2330] (rev a1)",
    "unknown to lspci": "02:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device "
    "[10de:2b85] (rev a1)",
}
QUERY = "0, NVIDIA GeForce RTX 3090, 550.163.01, 24576, 312, 8.6\n"
TABLE = (
    "+-----------------------------------------------------------------------------------------+\n"
    "| NVIDIA-SMI 550.163.01             Driver Version: 550.163.01     CUDA Version: 12.4     |\n"
)
MODULE = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\n"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n\n"
)
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.163\n"
)
TORCH = {
    "python": "/opt/v/bin/python",
    "version": "2.13.0+cu126",
    "cuda": "12.6",
    "answer": {"available": True, "count": 1, "architectures": ["sm_75", "sm_80", "sm_86"]},
}
GPU_FLEET = a_fleet(serving={"device": "cuda"})
RIGHT = {
    "bus": BUS["ampere"],
    "query": QUERY,
    "table": TABLE,
    "kernel_driver": MODULE,
    "nouveau": False,
    "torch": TORCH,
}


def about_gpus(**changed: Any) -> dict[str, Finding]:
    """Return what is found of a host with an RTX 3090 where this is otherwise."""
    said = {name: well(GPU_FLEET, name) for name in GPU_FLEET.hosts}
    for each in said.values():
        each["gpus"] = copy.deepcopy(RIGHT)
    said["gpu-1"]["gpus"] |= changed
    found = judged(GPU_FLEET, said)
    return {check: each for (host, check, _), each in found.items() if host == "gpu-1"}


@pytest.mark.parametrize(
    ("generation", "device"),
    [
        *(("pascal", "1b06"), ("turing", "1eb8"), ("ampere", "2204"), ("hopper", "2330")),
        ("unknown to lspci", "2b85"),
    ],
)
def test_cards_are_told_from_what_else_is_on_the_bus(generation: str, device: str) -> None:
    assert [card.device for card in bus_cards(BUS[generation])] == [device]


def test_gpus_are_read_and_complaints_are_none() -> None:
    (found,) = gpus(QUERY)
    assert (found.driver, found.memory_mib, found.capability) == ("550.163.01", 24576, (8, 6))
    two = gpus(QUERY + "1, NVIDIA H100 80GB HBM3, 550.163.01, [N/A], [N/A], 9.0\n")
    assert [each.memory_mib for each in two] == [24576, None]
    assert gpus(NO_DRIVER) == gpus(MISMATCH) == gpus("") == ()
    assert driver_cuda(TABLE) == (12, 4)
    assert driver_cuda(NO_DRIVER) is None
    assert (module_version(MODULE), module_version(OPEN_MODULE)) == ("550.163.01", "570.124.06")
    assert trouble(TABLE) == ""
    assert trouble(NO_DRIVER).startswith("NVIDIA-SMI has failed")


@given(st.text())
def test_whatever_a_program_prints_is_read(text: str) -> None:
    assert isinstance(gpus(text), tuple)
    assert isinstance(bus_cards(text), tuple)
    driver_cuda(text), module_version(text), trouble(text)


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        (("sm_80",), (8, 6), True),
        (("sm_86",), (8, 0), False),
        (("sm_90",), (10, 0), False),
        (("sm_90", "compute_90"), (12, 0), True),
        (("sm_120",), (12, 0), True),
        (("sm_90a",), (9, 0), True),
        ((), (8, 6), False),
    ],
)
def test_code_runs_on_cards_of_its_major_version(
    architectures: tuple[str, ...], capability: tuple[int, int], expected: bool
) -> None:
    assert runs_on(architectures, capability) is expected


def test_cards_driver_and_torch_that_agree() -> None:
    found = about_gpus()
    assert found["gpu.driver"].verdict is Verdict.OK
    assert "driver 550.163.01, CUDA up to 12.4" in found["gpu.driver"].evidence
    assert found["gpu.torch"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("changed", "check", "evidence", "remedy"),
    [
        ({"bus": "", "query": ""}, "gpu.driver", "no NVIDIA card is on the bus", "cpu or auto"),
        (
            {"query": NO_DRIVER, "table": NO_DRIVER, "kernel_driver": ""},
            *("gpu.driver", "NVIDIA-SMI has failed", "secure boot"),
        ),
        (
            {"query": MISMATCH, "table": MISMATCH},
            *("gpu.driver", "the kernel has loaded 550.163.01", "reboot"),
        ),
        (
            {"query": "", "table": "", "kernel_driver": "", "nouveau": True},
            *("gpu.driver", "nouveau holds the card", "blacklist"),
        ),
        (
            {"bus": BUS["ampere"] + "\n" + BUS["turing"]},
            *("gpu.driver", "2 cards are on the bus and the driver answers for 1", "NVRM"),
        ),
        (
            {"kernel_driver": OPEN_MODULE},
            *("gpu.driver", "the kernel has loaded 570.124.06, the tools are of 550", "reboot"),
        ),
        ({"query": "", "table": ""}, "gpu.driver", "nvidia-smi is missing", "one version"),
        (
            {"torch": TORCH | {"version": "2.13.0+cpu", "cuda": None}},
            *("gpu.torch", "built without CUDA", "build of torch"),
        ),
        (
            {"torch": TORCH | {"cuda": "13.0"}},
            *("gpu.torch", "the driver supports CUDA 12.4 at most", "upgrade the driver"),
        ),
        (
            {"torch": TORCH | {"answer": None}},
            *("gpu.torch", "gives no answer", "/opt/v/bin/python -c 'import torch'"),
        ),
        (
            {"torch": TORCH | {"answer": {"available": False, "count": 0, "architectures": []}}},
            *("gpu.torch", "sees 0 of 1 GPUs", "/dev/nvidia*"),
        ),
        (
            {"query": "0, NVIDIA GeForce GTX 1080 Ti, 550.163.01, 11264, 1, 6.1\n"},
            *("gpu.torch", "has no code for NVIDIA GeForce GTX 1080 Ti (6.1)", "another card"),
        ),
    ],
)
def test_what_does_not_agree_is_named(
    changed: dict[str, Any], check: str, evidence: str, remedy: str
) -> None:
    found = about_gpus(**changed)[check]
    assert found.verdict is Verdict.FAIL
    assert evidence in found.evidence
    assert remedy in found.remedy


def test_a_host_that_is_to_use_none_is_warned_at_most() -> None:
    fleet = a_fleet()
    said = {name: well(fleet, name) for name in fleet.hosts}
    assert judged(fleet, said)["gpu-1", "gpu.driver", ""].verdict is Verdict.SKIPPED
    said["gpu-1"]["gpus"] |= {"bus": BUS["ampere"]}
    assert judged(fleet, said)["gpu-1", "gpu.driver", ""].verdict is Verdict.WARN
