"""What an operator writes of drivers and CUDA: for the fleet, and otherwise for one host."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from runtime.spec.base import Frozen

NONE: Final = "none"
CudaChoice = Literal["auto", "12.6", "13.0", "13.2"]
"""The releases of CUDA that torch is built for (a test compares them with `builds.py`), or auto."""
DriverChoice = Literal["nvidia", "distribution", "none"]


class Cuda(Frozen):
    """Which driver and which CUDA hosts with NVIDIA's GPUs have."""

    driver: DriverChoice = Field(
        default="nvidia",
        description="where a driver comes from on hosts that have a GPU and none: NVIDIA's signed "
        "repository, the distribution's own, or none: stagefleet installs none. One that works is "
        "never replaced",
    )
    version: CudaChoice = Field(
        default="auto",
        description="the CUDA that torch brings, in quotes; auto: the newest that the host's cards "
        "and driver run",
    )
    toolkit: bool = Field(
        default=False,
        description="install the CUDA toolkit too; only who compiles for GPUs needs it",
    )
    persistence: bool = Field(
        default=True, description="keep the driver loaded while nobody computes (needs systemd)"
    )


class HostCuda(Frozen):
    """What one host has otherwise than the fleet."""

    driver: DriverChoice | None = Field(default=None, description="overrides fleet.cuda.driver")
    version: CudaChoice | None = Field(default=None, description="overrides fleet.cuda.version")
    toolkit: bool | None = Field(default=None, description="overrides fleet.cuda.toolkit")
    persistence: bool | None = Field(default=None, description="overrides fleet.cuda.persistence")


def merged(fleet: Cuda, host: HostCuda | None) -> Cuda:
    """Return what holds for a host."""
    own = host.model_dump(exclude_none=True) if host else {}
    return fleet.model_copy(update=own)


def cuda_problems(fleet: Cuda, hosts: Mapping[str, HostCuda | None]) -> list[str]:
    """Return what of this can be true nowhere."""
    said = [("fleet.cuda", fleet)]
    said += [
        (f"host {name}: fleet_host.cuda", merged(fleet, own)) for name, own in hosts.items() if own
    ]
    return [
        f"{where}.toolkit is true, but only NVIDIA's repository has toolkits: set {where}.driver "
        "to nvidia, or leave the toolkit out"
        for where, wanted in said
        if wanted.toolkit and wanted.driver != "nvidia"
    ]
