"""The machine: its system, its kernel's modules, its clock."""

from collections.abc import Iterator

from runtime.checks.doctor import asked
from runtime.checks.doctor.catalogue import (
    KEEPER,
    LARGE_OFFSET_SECONDS,
    MODULES,
    OFFSET,
    OLDEST_PYTHON,
    SYSTEM,
    TRIED_SYSTEMS,
    WORST_OFFSET_SECONDS,
)
from runtime.checks.doctor.finding import Finding
from runtime.checks.doctor.judges.context import Context
from runtime.checks.doctor.seen import Seen
from runtime.spec.doctor import NVIDIA_MODULES


def system(context: Context) -> Iterator[Finding]:
    """Judge the distribution and its Python."""
    found = context.seen.machine
    if found is None:
        yield context.skipped(SYSTEM, "the host does not say what it is")
        return
    python = ".".join(map(str, found.python))
    evidence = f"{found.name}, kernel {found.kernel}, {found.processor}, Python {python}"
    tried = TRIED_SYSTEMS.get(found.system, ())
    if found.python < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield context.fail(
            SYSTEM,
            evidence,
            f"install Python {oldest} or newer and name it in ansible_python_interpreter",
        )
    elif not found.version.startswith(tried or ("-",)):
        known = ", ".join(f"{name} {' '.join(each)}" for name, each in TRIED_SYSTEMS.items())
        yield context.warn(SYSTEM, evidence, f"stagefleet was tried on {known} only")
    else:
        yield context.ok(SYSTEM, evidence)


def modules(context: Context) -> Iterator[Finding]:
    """Judge whether the kernel has what the inventory needs."""
    found = context.seen.modules
    for name in asked.modules(context.fleet, context.host):
        state = found.modules.get(name, "") if found is not None else ""
        if found is None:
            yield context.skipped(MODULES, "the host does not list its modules", name)
        elif state:
            yield context.ok(MODULES, state, name)
        else:
            yield _missing(context, name, found.has_directory)


def _missing(context: Context, name: str, has_directory: bool) -> Finding:
    release = context.seen.machine.kernel if context.seen.machine else "the running kernel"
    evidence = f"the module {name} is neither in kernel {release} nor on the disk for it"
    remedy = (
        f"install the kernel's whole set of modules (Debian: linux-image-amd64 instead of the "
        f"cloud kernel; Ubuntu: linux-modules-extra-{release}), reboot if that brings a newer "
        f"kernel, then: modprobe {name}"
    )
    if name in NVIDIA_MODULES:
        remedy = "install NVIDIA's driver (playbooks/site.yml does where fleet.cuda asks for it)"
    if not has_directory:
        evidence += f"; there is no /lib/modules/{release}"
        remedy = (
            f"in a container, load it on the machine around it: modprobe {name}; after an "
            "upgrade of the kernel, reboot"
        )
    return context.fail(MODULES, evidence, remedy, name)


def offset_bounds(seen: Seen) -> tuple[float, float]:
    """Return between which two numbers of seconds a host's clock is ahead of the controller's.

    What the program began at is no earlier than the question, its end no later than the answer; the
    difference of the clocks is what makes both true.
    """
    return seen.time.end - seen.answered, seen.time.start - seen.asked


def offset(context: Context) -> Iterator[Finding]:
    """Judge the clock by what it surely is off, whatever the way there took."""
    low, high = offset_bounds(context.seen)
    sure = max(low, -high, 0.0)
    middle = (low + high) / 2
    direction = "ahead of" if middle > 0 else "behind"
    doubt = abs(high - low) / 2
    evidence = f"{abs(middle):.1f} s {direction} the controller's, give or take {doubt:.1f} s"
    remedy = (
        f"set the clock of {context.host} and keep it right: apt install chrony, then chronyc "
        "makestep (in a container: on the machine around it); if all hosts differ alike, it is the "
        "controller's"
    )
    if sure > WORST_OFFSET_SECONDS:
        yield context.fail(OFFSET, evidence, remedy)
    elif sure > LARGE_OFFSET_SECONDS:
        yield context.warn(OFFSET, evidence, remedy)
    else:
        yield context.ok(OFFSET, evidence)


def keeper(context: Context) -> Iterator[Finding]:
    """Judge whether something keeps the clock right."""
    found = context.seen.clock
    if found is None or (found.synchronised is None and not found.keepers):
        yield context.skipped(KEEPER, "the kernel does not say whether its clock is synchronised")
        return
    by = f"by {', '.join(found.keepers)}" if found.keepers else "by no program that runs here"
    error = f", off by {found.error_seconds:.3f} s at most" if found.error_seconds else ""
    if found.synchronised:
        yield context.ok(KEEPER, f"synchronised {by}{error}")
    elif found.keepers:
        yield context.warn(
            KEEPER,
            f"{', '.join(found.keepers)} runs, and the kernel calls its clock not synchronised",
            "see whether it reaches its servers: chronyc sources, or timedatectl timesync-status",
        )
    else:
        yield context.warn(
            KEEPER,
            "nothing corrects the clock",
            "apt install chrony (in a container: on the machine around it)",
        )
