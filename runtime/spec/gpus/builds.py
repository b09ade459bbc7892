"""CUDA releases as torch is built for them: which GPUs each has code for, which driver it needs.

The rows are those of one version of torch: `requirements/torch.txt` pins it, and a test says when
the two no longer agree.
"""

from collections.abc import Iterable
from typing import Final, Literal

from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.gpus.cards import Capability, Gpu

TORCH: Final = "2.13"
"""The version of torch whose builds these are."""
CPU: Final = "cpu"
"""The build without CUDA."""
AUTO: Final = "auto"
"""Instead of a release of CUDA: the newest that fits."""

CudaVersion = Literal["12.6", "13.0", "13.2"]


class Build(Frozen):
    """One build of torch.

    Attributes:
        cuda: the release of CUDA that it brings with it.
        name: what its index and the local part of its version are called.
        codes: the capabilities that it has machine code for, on x86-64.
        driver: the oldest driver that it runs with: CUDA's minor versions run with every driver
            that is new enough for their major version.
        experimental: torch's own word; never chosen unless it is asked for.
    """

    cuda: CudaVersion
    name: str
    codes: tuple[Capability, ...]
    driver: str
    experimental: bool = False

    def supports(self, gpu: Gpu) -> bool:
        """Return whether it has code that a GPU runs."""
        return any(gpu.capability.runs(code) for code in self.codes)


def _codes(text: str) -> tuple[Capability, ...]:
    return tuple(Capability.of(code) for code in text.split())


BUILDS: Final[tuple[Build, ...]] = (
    # Codes: torch's RELEASE.md, "PyTorch CUDA Support Matrix", releases 2.12 to 2.14. Drivers: the
    # CUDA Toolkit's release notes, "minimum required driver version", Linux: 12.x and 13.x.
    Build(
        cuda="12.6",
        name="cu126",
        codes=_codes("5.0 6.0 7.0 7.5 8.0 8.6 9.0"),
        driver="525.60.13",
    ),
    Build(
        cuda="13.0",
        name="cu130",
        codes=_codes("7.5 8.0 8.6 9.0 10.0 12.0"),
        driver="580.65.06",
    ),
    Build(
        cuda="13.2",
        name="cu132",
        codes=_codes("7.5 8.0 8.6 9.0 10.0 12.0"),
        driver="580.65.06",
        experimental=True,
    ),
)
"""The builds of TORCH, the oldest CUDA first."""


def build_of(cuda: str) -> Build:
    """Return the build for a release of CUDA, which must be one of CudaVersion."""
    return next(build for build in BUILDS if build.cuda == cuda)


def is_new_enough(driver: str, needed: str) -> bool:
    """Return whether a driver is as new as needed; both are versions such as "580.95.05"."""
    return _numbers(driver) >= _numbers(needed)


def fitting(gpus: Iterable[Gpu], driver: str) -> Build | None:
    """Return the newest build that has code for every GPU and runs with a driver, or None."""
    cards = tuple(gpus)
    return next(
        (
            build
            for build in reversed(BUILDS)
            if not build.experimental
            and all(build.supports(gpu) for gpu in cards)
            and is_new_enough(driver, build.driver)
        ),
        None,
    )


def chosen(asked: str, cards: tuple[Gpu, ...], driver: str, whose: str, remedy: str) -> Build:
    """Return the build of torch for these cards and a driver.

    Args:
        asked: a release of CUDA, or AUTO for the newest that fits.
        cards: the cards, at least one.
        driver: the driver's version.
        whose: what that driver is, as the subject of a sentence.
        remedy: what else than another CUDA would help.

    Raises:
        SpecError: none fits, or the one that the inventory names does not.
    """
    best = fitting(cards, driver)
    alternative = f"set fleet.cuda.version to '{best.cuda}', which fits" if best else ""
    if asked == AUTO:
        if best:
            return best
        _refuse_all(cards, driver, whose, remedy)
    build = build_of(asked)
    wrong = [gpu for gpu in cards if not build.supports(gpu)]
    if wrong:
        raise SpecError(
            f"fleet.cuda.version is {build.cuda}, but torch's build for it has no code for "
            f"{', '.join(map(str, wrong))}",
            hint=alternative or "set fleet.cuda.version to auto to hear what could fit",
        )
    if not is_new_enough(driver, build.driver):
        raise SpecError(
            f"fleet.cuda.version is {build.cuda}, which needs a driver {build.driver} or newer; "
            f"{whose} does not support it",
            hint=f"{alternative}, or {remedy}" if alternative else remedy,
        )
    return build


def _refuse_all(cards: tuple[Gpu, ...], driver: str, whose: str, remedy: str) -> None:
    for gpu in cards:
        if not any(build.supports(gpu) for build in BUILDS):
            raise SpecError(
                f"no build of torch has code for {gpu}",
                hint="set the device of its servers to cpu, or use another card",
            )
    together = [
        build
        for build in BUILDS
        if not build.experimental and all(build.supports(gpu) for gpu in cards)
    ]
    if not together:
        raise SpecError(
            f"{_names(cards)}: no build of torch has code for all of them",
            hint="keep cards from Turing on and older ones in different hosts",
        )
    oldest = min(together, key=lambda build: build.cuda)
    raise SpecError(
        f"{_names(cards)} need CUDA {oldest.cuda} or newer, and that a driver {oldest.driver} or "
        f"newer; {whose} is too old ({driver})",
        hint=remedy,
    )


def _names(cards: Iterable[Gpu]) -> str:
    return ", ".join(map(str, cards))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
