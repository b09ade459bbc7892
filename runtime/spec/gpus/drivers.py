"""Drivers: which branch supports which generation, and what its packages are called where.

A branch is pinned for each system and origin. Within it, updates come as the origin brings them:
they are bug fixes and security updates.
"""

from collections.abc import Iterable
from typing import Final, Literal

from runtime.spec.base import Frozen
from runtime.spec.gpus.cards import Generation, Gpu

Origin = Literal["nvidia", "distribution"]
_OPEN_FOR_ALL: Final = 560
"""The first branch whose open modules drive every card from Turing on (NVIDIA's release notes)."""


class Branch(Frozen):
    """A branch of NVIDIA's drivers for Linux.

    Attributes:
        number: the first part of its versions.
        oldest: the oldest generation that it supports.
        newest: the newest generation that it supports.
    """

    number: int
    oldest: Generation
    newest: Generation

    def supports(self, gpu: Gpu) -> bool:
        """Return whether it drives a card."""
        return self.oldest.age <= gpu.generation.age <= self.newest.age

    @property
    def version(self) -> str:
        """Return a version that stands for what the origins have of it: its last."""
        return f"{self.number}.9999"


BRANCHES: Final = {
    branch.number: branch
    for branch in (
        # Maxwell is the oldest from 495 on, and Blackwell came with 570; 580 is the last with
        # Maxwell, Pascal and Volta (NVIDIA's CUDA toolkit, driver and architecture matrix).
        Branch(number=535, oldest=Generation.MAXWELL, newest=Generation.HOPPER),
        Branch(number=550, oldest=Generation.MAXWELL, newest=Generation.HOPPER),
        # Supported until June 2028 (NVIDIA's data-centre driver life cycle).
        Branch(number=580, oldest=Generation.MAXWELL, newest=Generation.BLACKWELL),
        Branch(number=595, oldest=Generation.TURING, newest=Generation.BLACKWELL),
    )
}


class Repository(Frozen):
    """Where NVIDIA keeps a system's packages, below the address that the role `cuda` knows.

    Attributes:
        path: the directory of the system.
        key: the file in it that has the key which signs it.
        fingerprint: of that key; another one is refused.
    """

    path: str
    key: str
    fingerprint: str


class Source(Frozen):
    """One way to a driver: an origin on a system.

    Attributes:
        system: the distribution and its version, such as ("debian", "12").
        branch: the branch that is pinned.
        repository: what has to be added, or None where the distribution's own serve.
        open_packages: the driver with the open kernel modules, without anything graphical.
        closed_packages: the same with the proprietary ones.
        toolkits: the releases of CUDA whose toolkit is there too.
        signed: its modules are signed by a key that every machine with Secure Boot accepts.
        pattern: what the names of the driver's packages look like.
    """

    system: tuple[str, str]
    origin: Origin
    branch: int
    repository: Repository | None = None
    open_packages: tuple[str, ...]
    closed_packages: tuple[str, ...]
    toolkits: tuple[str, ...] = ()
    signed: bool = False

    def packages(self, gpus: Iterable[Gpu], kernel: str) -> tuple[str, ...]:
        """Return the driver's packages for these cards and a kernel's release."""
        chosen = self.open_packages if self.is_open(gpus) else self.closed_packages
        flavour = kernel.split("-", 2)[-1]
        headers = () if self.signed else (f"linux-headers-{kernel}", f"linux-headers-{flavour}")
        return (*headers, *(name.replace("{flavour}", flavour) for name in chosen))

    def is_open(self, gpus: Iterable[Gpu]) -> bool:
        """Return whether the open kernel modules are the ones for these cards."""
        turing = Generation.TURING.age
        return self.branch >= _OPEN_FOR_ALL and all(gpu.generation.age >= turing for gpu in gpus)


def unsupported(source: Source, gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Return the cards that a source's branch does not drive, alone or beside the others."""
    cards = tuple(gpus)
    branch = BRANCHES[source.branch]
    # Blackwell runs with the open modules only, cards before Turing only with the others.
    needs_open = () if source.is_open(cards) else (Generation.BLACKWELL,)
    return tuple(gpu for gpu in cards if not branch.supports(gpu) or gpu.generation in needs_open)


_DEBIAN_FREE = ("firmware-nvidia-gsp", "libcuda1", "libnvidia-ptxjitcompiler1")
_DEBIAN_TOOLS = ("nvidia-smi", "nvidia-persistenced")

SOURCES: Final[tuple[Source, ...]] = (
    # Names: NVIDIA's driver installation guide, "compute-only"; branches: what each repository
    # has. Debian 13's began with 590, so that cards before Turing are left to the distribution.
    Source(
        system=("debian", "12"),
        origin="nvidia",
        branch=580,
        repository=Repository(
            path="debian12/x86_64",
            key="3bf863cc.pub",
            fingerprint="EB693B3035CD5710E231E123A4B469963BF863CC",
        ),
        open_packages=("nvidia-driver-cuda", "nvidia-kernel-open-dkms"),
        closed_packages=("nvidia-driver-cuda", "nvidia-kernel-dkms"),
        toolkits=("12.6", "13.0"),
    ),
    Source(
        system=("debian", "12"),
        origin="distribution",
        branch=535,
        open_packages=(),
        closed_packages=("nvidia-kernel-dkms", *_DEBIAN_FREE, *_DEBIAN_TOOLS),
    ),
    Source(
        system=("debian", "13"),
        origin="nvidia",
        branch=595,
        repository=Repository(
            path="debian13/x86_64",
            key="8793F200.pub",
            fingerprint="02182E60104FCDC26EAE1B8597A5D4CB8793F200",
        ),
        open_packages=("nvidia-driver-cuda", "nvidia-kernel-open-dkms"),
        closed_packages=(),
        toolkits=("13.2",),
    ),
    Source(
        system=("debian", "13"),
        origin="distribution",
        branch=550,
        open_packages=(),
        closed_packages=("nvidia-kernel-dkms", *_DEBIAN_FREE, *_DEBIAN_TOOLS),
    ),
    Source(
        system=("ubuntu", "24.04"),
        origin="nvidia",
        branch=580,
        repository=Repository(
            path="ubuntu2404/x86_64",
            key="3bf863cc.pub",
            fingerprint="EB693B3035CD5710E231E123A4B469963BF863CC",
        ),
        open_packages=("libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"),
        closed_packages=("libnvidia-compute-580", "nvidia-dkms-580", "nvidia-utils-580"),
        toolkits=("12.6", "13.0"),
    ),
    Source(
        system=("ubuntu", "24.04"),
        origin="distribution",
        branch=580,
        open_packages=(
            "linux-modules-nvidia-580-server-open-{flavour}",
            "libnvidia-compute-580-server",
            "nvidia-utils-580-server",
        ),
        closed_packages=(
            "linux-modules-nvidia-580-server-{flavour}",
            "libnvidia-compute-580-server",
            "nvidia-utils-580-server",
        ),
        signed=True,
    ),
)
"""Every system and origin that a driver is installed from."""

PATTERNS: Final = ("*nvidia*", "libcuda1", "libcudadebugger1", "libnvcuvid1", "libnvoptix1")
"""What the names of a driver's packages look like; other packages match, but not their versions."""


def source_of(system: tuple[str, str], origin: Origin) -> Source | None:
    """Return the way to a driver on a system, or None where none is known."""
    return next((each for each in SOURCES if each.system == system and each.origin == origin), None)
