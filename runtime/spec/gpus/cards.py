"""NVIDIA's GPUs by the numbers that a PCI bus knows them by: generation and compute capability.

Source of the numbers: the PCI ID Project's list of 2026-05-24, whose names of vendor 10de begin
with the chip's code name. Source of the capabilities: NVIDIA's table of CUDA-capable GPUs.
"""

from enum import StrEnum
from typing import Final, Self

from pydantic import Field

from runtime.spec.base import Frozen

VENDOR: Final = 0x10DE
"""NVIDIA's number as a vendor of PCI devices."""


class Generation(StrEnum):
    """A family of chips that drivers support, or drop, as one; the oldest first."""

    KEPLER = "Kepler"
    MAXWELL = "Maxwell"
    PASCAL = "Pascal"
    VOLTA = "Volta"
    TURING = "Turing"
    AMPERE = "Ampere"
    ADA = "Ada"
    HOPPER = "Hopper"
    BLACKWELL = "Blackwell"

    @property
    def age(self) -> int:
        """Return its place in the order of generations, 0 for the oldest."""
        return list(Generation).index(self)


class Capability(Frozen):
    """A compute capability, such as 8.6: what machine code a GPU runs."""

    major: int = Field(ge=1)
    minor: int = Field(ge=0)

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the capability that is written as "8.6".

        Raises:
            ValueError: it is written otherwise.
        """
        major, minor = text.strip().split(".")
        return cls(major=int(major), minor=int(minor))

    def runs(self, code: "Capability") -> bool:
        """Return whether a GPU of this capability runs machine code that was made for another.

        Code runs on its own major version only, and on minor versions from its own on (CUDA C++
        Programming Guide, "Binary Compatibility").
        """
        return self.major == code.major and self.minor >= code.minor

    def __str__(self) -> str:
        """Return it as it is written everywhere."""
        return f"{self.major}.{self.minor}"


class Chip(Frozen):
    """Devices whose numbers lie in `[first, last]` are of this chip."""

    first: int
    last: int
    name: str
    generation: Generation
    capability: Capability


class Gpu(Frozen):
    """One card of a host.

    Attributes:
        slot: its place on the PCI bus, such as "0000:01:00.0".
        name: what it is called, for people.
    """

    slot: str
    name: str
    generation: Generation
    capability: Capability

    def __str__(self) -> str:
        """Return what it is, for people."""
        return f"{self.name} ({self.generation}, {self.capability})"


def chip_of(device: int) -> Chip | None:
    """Return the chip of a device of NVIDIA's by its number, or None for one that is not known."""
    return next((chip for chip in CHIPS if chip.first <= device <= chip.last), None)


def generation_of(capability: Capability) -> Generation:
    """Return the generation that a capability belongs to."""
    known = {
        (chip.capability.major, chip.capability.minor): chip.generation for chip in reversed(CHIPS)
    }
    exact = known.get((capability.major, capability.minor))
    if exact is not None:
        return exact
    older = [place for place in known if place <= (capability.major, capability.minor)]
    return known[max(older)] if older else Generation.KEPLER


def _chips(
    generation: Generation, capability: str, *rows: tuple[str, int, int]
) -> tuple[Chip, ...]:
    return tuple(
        Chip(
            first=first,
            last=last,
            name=name,
            generation=generation,
            capability=Capability.of(capability),
        )
        for name, first, last in rows
    )


CHIPS: Final[tuple[Chip, ...]] = (
    # No build of torch has code for Kepler any more; it is known to be told so by its name.
    *_chips(
        Generation.KEPLER,
        "3.5",
        ("GK107", 0x0FC0, 0x0FFF),
        ("GK110", 0x1001, 0x103F),
        ("GK104", 0x1180, 0x11BF),
        ("GK106", 0x11C0, 0x11FF),
        ("GK208", 0x1280, 0x12BA),
    ),
    *_chips(
        Generation.MAXWELL,
        "5.0",
        ("GM108", 0x1340, 0x137D),
        ("GM107", 0x1380, 0x139D),
        ("GM107", 0x13B0, 0x13BD),
        ("GM108", 0x174D, 0x174E),
        ("GM107", 0x1789, 0x179C),
    ),
    *_chips(
        Generation.MAXWELL,
        "5.2",
        ("GM204", 0x13AD, 0x13AE),
        ("GM204", 0x13BE, 0x13FB),
        ("GM206", 0x1401, 0x1436),
        ("GM204", 0x1613, 0x1676),
        ("GM200", 0x17C2, 0x17FD),
    ),
    *_chips(Generation.PASCAL, "6.0", ("GP100", 0x15C2, 0x15FF)),
    *_chips(
        Generation.PASCAL,
        "6.1",
        ("GP106", 0x1725, 0x172F),
        ("GP102", 0x1B00, 0x1B78),
        ("GP104", 0x1B80, 0x1BE1),
        ("GP106", 0x1C00, 0x1C70),
        ("GP107", 0x1C81, 0x1CFB),
        ("GP108", 0x1D01, 0x1D56),
    ),
    *_chips(Generation.VOLTA, "7.0", ("GV100", 0x1D81, 0x1DF6)),
    *_chips(
        Generation.TURING,
        "7.5",
        ("TU102", 0x1E02, 0x1E78),
        ("TU104", 0x1E81, 0x1EF5),
        ("TU106", 0x1F02, 0x1F76),
        ("TU117", 0x1F81, 0x1FF9),
        ("TU116", 0x2182, 0x21D1),
    ),
    *_chips(Generation.AMPERE, "8.0", ("GA100", 0x2080, 0x20FF)),
    *_chips(
        Generation.AMPERE,
        "8.6",
        ("GA102", 0x2200, 0x223F),
        ("GA103", 0x2414, 0x2460),
        ("GA104", 0x2480, 0x24FA),
        ("GA106", 0x2501, 0x2571),
        ("GA107", 0x2582, 0x25FB),
    ),
    *_chips(Generation.HOPPER, "9.0", ("GH100", 0x2302, 0x23F0)),
    *_chips(
        Generation.ADA,
        "8.9",
        ("AD102", 0x2681, 0x26F5),
        ("AD103", 0x2702, 0x2770),
        ("AD104", 0x2782, 0x27FB),
        ("AD106", 0x2803, 0x2878),
        ("AD107", 0x2882, 0x28F8),
    ),
    *_chips(Generation.BLACKWELL, "10.0", ("GB100", 0x2900, 0x297E), ("GB102", 0x2980, 0x29F1)),
    *_chips(Generation.BLACKWELL, "10.3", ("GB110", 0x3180, 0x31FE)),
    *_chips(
        Generation.BLACKWELL,
        "12.0",
        ("GB202", 0x2B85, 0x2BBC),
        ("GB203", 0x2C02, 0x2C79),
        ("GB206", 0x2D04, 0x2D79),
        ("GB207", 0x2D83, 0x2DF9),
        ("GB205", 0x2F04, 0x2F58),
    ),
)
"""Every chip that is known; one that is not is known by its driver, once that works."""
