"""What the doctor expects of hosts besides what follows from the rest of the inventory."""

from typing import Annotated, Final

from pydantic import Field

from runtime.spec.base import Frozen

ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]
NVIDIA_MODULES: Final = ("nvidia", "nvidia_uvm")
FIREWALL_MODULES: Final = ("nf_tables",)


class Doctor(Frozen):
    """What an operator wants the doctor to look for."""

    modules: tuple[ModuleName, ...] = Field(
        default=(),
        description="kernel modules that every host must have, besides those that follow from "
        "the inventory, such as wireguard",
    )
