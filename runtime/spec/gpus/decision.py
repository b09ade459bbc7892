"""What to do about the GPUs of a host, by what the inventory says and what the host has answered.

Pure. The role `cuda` asks and does. The order of the questions is that of what can be wrong: is
there a GPU, does its driver work, which CUDA fits both, and only then what would be installed.
"""

from collections.abc import Iterable
from typing import Final

from runtime.spec.answers import Questions, Seen
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.gpus import seen as said
from runtime.spec.gpus.builds import CPU, Build, chosen
from runtime.spec.gpus.cards import Gpu
from runtime.spec.gpus.drivers import (
    BRANCHES,
    PATTERNS,
    Origin,
    Repository,
    Source,
    source_of,
    unsupported,
)
from runtime.spec.gpus.seen import CudaFiles
from runtime.spec.gpus.wanted import NONE, Cuda

_KEY: Final = "fleet.cuda"
_BUILT_FOR: Final = "x86_64"
"""The processors for which the sources' paths and the builds' codes are known."""


class Record(Frozen):
    """What is noted on a host of the driver that stagefleet has installed.

    Attributes:
        present: the packages that were installed before.
        packages: those that were asked for.
        boot: the start of the system in which they came.
        added: all that came with them; None: the run was cut off before that was noted.
    """

    present: tuple[str, ...]
    packages: tuple[str, ...]
    boot: str
    added: tuple[str, ...] | None = None


class Setup(Frozen):
    """What a host that stagefleet installs a driver on should have.

    Attributes:
        repository: what is added to its sources, or None.
        packages: what is installed.
        patterns: the names that the branch is pinned for.
        branch: which versions of them are taken, as apt writes it.
        held: what is not upgraded behind the back of a server that computes.
        present: what was installed already, before the first package of ours.
        installed: those of the packages that are there now.
        boot: the start of the system in which this happens.
        is_noted: what came with these packages is noted already.
    """

    repository: Repository | None
    packages: tuple[str, ...]
    patterns: tuple[str, ...] = PATTERNS
    branch: str
    held: tuple[str, ...]
    present: tuple[str, ...]
    installed: tuple[str, ...]
    boot: str
    is_noted: bool


class Decision(Frozen):
    """What is to be done about a host's GPUs.

    Attributes:
        problem: why nothing can be done, in the operator's words, or empty.
        report: what is there and what runs on it, one line for people.
        build: the build of torch that fits.
        setup: what is installed, or None where stagefleet installs nothing.
        persistence: whether our unit that keeps the driver loaded is to be there; None: it makes no
            difference.
        reboot: why the host has to start anew before its GPUs work, or empty.
    """

    problem: str = ""
    report: str = ""
    build: str = CPU
    setup: Setup | None = None
    persistence: bool | None = None
    reboot: str = ""


class CudaPlan(Frozen):
    """What the GPUs of one host are for.

    Attributes:
        devices: what its servers compute on, without those that use the processor.
        wanted: what the inventory says of driver and CUDA.
        is_root: root can be had there, without whom no driver is installed.
        files: what is written on the host.
        settled: what is decided without a look at the host, or None.
        questions: what has to be known of the host.
    """

    fleet: str
    host: str
    devices: tuple[str, ...]
    wanted: Cuda
    is_root: bool
    files: CudaFiles = said.FILES
    settled: Decision | None
    questions: Questions


def cuda_plan(
    fleet: str, host: str, devices: tuple[str, ...], wanted: Cuda, is_root: bool
) -> CudaPlan:
    """Return the plan of a host whose servers compute on these devices, none of which is a cpu."""
    return CudaPlan(
        fleet=fleet,
        host=host,
        devices=devices,
        wanted=wanted,
        is_root=is_root,
        settled=None if devices else Decision(report="no server here computes on a GPU: skipped"),
        questions=said.QUESTIONS,
    )


def decide(plan: CudaPlan, seen: Seen) -> Decision:
    """Return what is to be done about a host's GPUs, or why it cannot be done."""
    try:
        return _decision(plan, seen)
    except SpecError as error:
        if _may_do_without(plan, seen):
            reason = str(error).splitlines()[0]
            return Decision(report=f"{reason}: skipped, its servers compute on the processor")
        return Decision(problem=f"host {plan.host}: {error}")


def _may_do_without(plan: CudaPlan, seen: Seen) -> bool:
    """Return whether no server demands a GPU, and nothing here could make one work."""
    demanded = any(device.startswith("cuda") for device in plan.devices)
    is_ours = plan.is_root and plan.wanted.driver != NONE and not said.container(seen)
    return not demanded and not is_ours


def _decision(plan: CudaPlan, seen: Seen) -> Decision:
    if plan.settled:
        return plan.settled
    cards, unknown = said.gpus(seen)
    if not cards and not unknown:
        return _without_gpu(plan)
    shown = said.running(seen)
    if not shown and unknown:
        names = ", ".join(f"{each.name} (10de:{each.number:04x})" for each in unknown)
        raise SpecError(
            f"it is not known which driver {names} needs",
            hint=f"install its driver there by hand: once nvidia-smi works, it is used; {_leave()}",
        )
    record = _record(seen)
    if shown and not record:
        return _kept(plan, seen, cards, shown[0].driver)
    if said.is_windows(seen):
        raise SpecError(
            "it is a Linux inside Windows, which shows no GPU",
            hint="install NVIDIA's driver in Windows, run `wsl --update`, and never install one "
            "inside",
        )
    return _installed(plan, seen, cards, record)


def _without_gpu(plan: CudaPlan) -> Decision:
    demanded = [device for device in plan.devices if device.startswith("cuda")]
    if demanded:
        raise SpecError(
            f"it has no NVIDIA GPU, but a server there is to compute on {demanded[0]}",
            hint="set its device to cpu or auto, or give it a card",
        )
    return Decision(report="no NVIDIA GPU: skipped, its servers compute on the processor")


def _kept(plan: CudaPlan, seen: Seen, cards: tuple[Gpu, ...], driver: str) -> Decision:
    """Return that a driver which works, and is not ours, stays as it is."""
    build = chosen(
        plan.wanted.version,
        cards,
        driver,
        f"its driver {driver}, which stagefleet did not install and does not replace,",
        "upgrade that driver",
    )
    return Decision(
        report=f"{_names(cards)}; its driver {driver} works and stays; {_runs(build)}",
        build=build.name,
        persistence=_persistence(plan, seen),
    )


def _installed(
    plan: CudaPlan, seen: Seen, cards: tuple[Gpu, ...], record: Record | None
) -> Decision:
    """Return what is installed for cards that have no driver, or one of ours."""
    trouble = said.trouble(seen)
    if plan.wanted.driver == NONE or not plan.is_root:
        raise SpecError(
            f"{_names(cards)}: "
            + (f"the driver does not work: {trouble}" if trouble else "there is no driver")
            + f", and {'fleet.cuda.driver is none' if plan.is_root else 'there is no root'}, so "
            "that it is left to others",
            hint="install NVIDIA's driver there, let stagefleet do it (install.scope system, "
            f"{_KEY}.driver nvidia or distribution), or set the device to cpu",
        )
    if said.container(seen):
        raise SpecError(
            f"{_names(cards)}: it is a container ({said.container(seen)}), whose kernel, and with "
            "it the driver, is another machine's",
            hint="install the driver on the machine around it, and pass the GPU on",
        )
    source = _source(plan, seen, cards)
    build = chosen(
        plan.wanted.version,
        cards,
        BRANCHES[source.branch].version,
        f"the driver {source.branch}, which {_whose(source)} has for {_system(seen)},",
        "take the driver from the other origin",
    )
    if trouble and not record:
        raise SpecError(
            f"{_names(cards)}: a driver that stagefleet did not install does not work: {trouble}",
            hint="reboot the host; if that does not help, repair or remove that driver "
            "(apt purge '*nvidia*'), and run this again",
        )
    if said.refuses_modules(seen) and not source.signed and not said.running(seen):
        raise SpecError(
            f"{_names(cards)}: Secure Boot is on, and the kernel would refuse a driver that is "
            "built on the host",
            hint="enroll the key that DKMS signs with (mokutil --import /var/lib/dkms/mok.pub, "
            "reboot, confirm at the screen), on Ubuntu set fleet.cuda.driver to distribution, "
            "whose modules are signed, or switch Secure Boot off",
        )
    return _with_reboot(plan, seen, cards, record, source, build)


def _with_reboot(
    plan: CudaPlan,
    seen: Seen,
    cards: tuple[Gpu, ...],
    record: Record | None,
    source: Source,
    build: Build,
) -> Decision:
    toolkit = _toolkit(plan, source, build)
    drivers = source.packages(cards, said.kernel(seen))
    shown = said.running(seen)
    reboot = ""
    # A run that was cut off has noted what was there and installed nothing yet.
    if record and not shown and said.packages(seen).issuperset(drivers):
        if record.boot != said.boot(seen):
            raise SpecError(
                f"{_names(cards)}: the driver that stagefleet installed does not work although the "
                f"host has rebooted: {said.trouble(seen) or 'nvidia-smi is not there'}",
                hint="see why there: dkms status; journalctl --dmesg --grep 'nvidia|NVRM'",
            )
        held_by = "nouveau holds the cards" if said.nouveau_runs(seen) else "it is not loaded yet"
        reboot = f"driver {source.branch} is installed, but {held_by}"
    repository = source.repository
    if repository and said.others_source(seen, repository.path):
        # apt refuses two entries for one place that name different keys.
        repository = None
    driver = f"driver {shown[0].driver}" if shown else f"driver {source.branch}"
    packages = (*drivers, *toolkit)
    kind = "open" if source.is_open(cards) else "proprietary"
    return Decision(
        report=f"{_names(cards)}; {driver} ({kind} modules) from {_whose(source)}; {_runs(build)}",
        build=build.name,
        setup=Setup(
            repository=repository,
            packages=packages,
            branch=f"{source.branch}.*",
            held=tuple(name for name in drivers if not name.startswith("linux-")),
            present=record.present if record else tuple(sorted(said.packages(seen))),
            installed=tuple(name for name in packages if name in said.packages(seen)),
            boot=said.boot(seen),
            is_noted=record is not None and record.added is not None,
        ),
        persistence=_persistence(plan, seen),
        reboot=reboot,
    )


def _persistence(plan: CudaPlan, seen: Seen) -> bool | None:
    """Return whether our unit is to be there; None: somebody else sees to it, or nobody can."""
    shown = said.running(seen)
    there = said.keeps_loaded(seen)
    if not plan.is_root or not said.has_systemd(seen):
        return None
    if not plan.wanted.persistence:
        return False if there else None
    if not shown or said.is_windows(seen) or said.container(seen):
        return None
    return True if there or not all(card.persistent for card in shown) else None


def _source(plan: CudaPlan, seen: Seen, cards: tuple[Gpu, ...]) -> Source:
    """Return where a host's driver comes from.

    Raises:
        SpecError: nowhere, or it would not drive a card.
    """
    origin: Origin = "distribution" if plan.wanted.driver == "distribution" else "nvidia"
    other: Origin = "nvidia" if origin == "distribution" else "distribution"
    found = source_of(said.system(seen), origin)
    if found is None or said.machine(seen) != _BUILT_FOR:
        raise SpecError(
            f"{_names(cards)}: it is not known where a driver for {_system(seen)} on "
            f"{said.machine(seen)} comes from",
            hint=f"install one there by hand: once nvidia-smi works, it is used; {_leave()}",
        )
    if origin == "distribution" and found.system[0] == "debian" and not said.has_candidate(seen):
        raise SpecError(
            f"fleet.cuda.driver is distribution, but {_system(seen)} has no driver in the "
            "components of its repositories that this host uses",
            hint="add contrib, non-free and non-free-firmware to its sources and run apt update "
            "there, or set fleet.cuda.driver to nvidia",
        )
    wrong = unsupported(found, cards)
    if not wrong:
        return found
    elsewhere = source_of(said.system(seen), other)
    names = ", ".join(map(str, wrong))
    if elsewhere and not unsupported(elsewhere, cards):
        raise SpecError(
            f"{names}: the driver {found.branch}, which {_whose(found)} has for {_system(seen)}, "
            "does not support it",
            hint=f"set fleet.cuda.driver, or this host's fleet_host.cuda.driver, to {other}: its "
            f"driver {elsewhere.branch} does",
        )
    raise SpecError(
        f"{_names(cards)}: no driver for {_system(seen)} supports all of them ({names} is the "
        f"trouble with {found.branch})",
        hint="keep cards of Maxwell, Pascal or Volta and cards of Blackwell in different hosts",
    )


def _toolkit(plan: CudaPlan, source: Source, build: Build) -> tuple[str, ...]:
    if not plan.wanted.toolkit:
        return ()
    if build.cuda not in source.toolkits:
        known = ", ".join(source.toolkits) or "none"
        raise SpecError(
            f"fleet.cuda.toolkit is true, but {_whose(source)} has no toolkit {build.cuda} for "
            f"this system (it has: {known})",
            hint="leave fleet.cuda.toolkit out: torch brings what it needs of CUDA with it",
        )
    return (f"cuda-toolkit-{build.cuda.replace('.', '-')}",)


def _record(seen: Seen) -> Record | None:
    """Return what was noted when stagefleet installed a driver here; None: it has not."""
    text = seen.files.get(said.FILES.record, "")
    return Record.model_validate_json(text) if text else None


def _names(cards: Iterable[Gpu]) -> str:
    return ", ".join(map(str, cards))


def _runs(build: Build) -> str:
    return f"CUDA {build.cuda}, torch's build {build.name}"


def _whose(source: Source) -> str:
    return "NVIDIA's repository" if source.repository else "the distribution"


def _system(seen: Seen) -> str:
    return " ".join(said.system(seen)).strip() or "this system"


def _leave() -> str:
    return "or set the device of its servers to cpu"
