"""GPUs: the cards on the bus, the driver and torch have to agree."""

from collections.abc import Iterator

from runtime.checks.doctor import asked
from runtime.checks.doctor.catalogue import DRIVER, TORCH
from runtime.checks.doctor.finding import Finding
from runtime.checks.doctor.gpu_words import (
    Gpu,
    bus_cards,
    driver_cuda,
    gpus,
    module_version,
    runs_on,
    trouble,
)
from runtime.checks.doctor.judges.context import Context
from runtime.checks.doctor.seen import Gpus, Torch


def driver(context: Context) -> Iterator[Finding]:
    """Judge whether the driver answers for the cards that are there."""
    found = context.seen.gpus
    if found is None:
        yield context.skipped(DRIVER, "no server is planned here")
        return
    cards, answering = bus_cards(found.bus), gpus(found.query)
    wanted = asked.wants_gpu(context.fleet, context.host)
    if not cards and not answering:
        if wanted:
            yield context.fail(
                DRIVER,
                "no NVIDIA card is on the bus, and a server is to use cuda",
                f"set the device of {context.host}'s stages to cpu or auto, or see in the BIOS and "
                "at the slot why the card is not there (in a container or VM: pass it through)",
            )
        else:
            yield context.skipped(DRIVER, "no NVIDIA card is on the bus")
        return
    names = ", ".join(each.name for each in answering or cards)
    problem, remedy = _problem(found, len(cards))
    tell = context.fail if wanted else context.warn
    if problem:
        yield tell(DRIVER, f"{names}: {problem}", remedy)
        return
    cuda = driver_cuda(found.table)
    said = f", CUDA up to {cuda[0]}.{cuda[1]}" if cuda else ""
    yield context.ok(DRIVER, f"{names}: driver {answering[0].driver}{said}")


def _problem(found: Gpus, cards: int) -> tuple[str, str]:
    """Return what is wrong with the driver and what mends it, or two empty texts."""
    complaint = trouble(found.query) or trouble(found.table)
    loaded = module_version(found.kernel_driver)
    answering = gpus(found.query)
    if "mismatch" in complaint.lower():
        return (
            f"{complaint} (the kernel has loaded {loaded or 'another one'})",
            "the driver was upgraded while it was in use: reboot",
        )
    if found.nouveau and not loaded:
        return (
            "the driver nouveau holds the card, which has no CUDA",
            "install NVIDIA's driver, which puts nouveau on a blacklist, and reboot",
        )
    if not loaded and not answering:
        return (
            complaint or "no driver is loaded",
            "install NVIDIA's driver; if it is installed: modprobe nvidia, and see in dmesg why it "
            "is refused (secure boot refuses modules that nobody has signed)",
        )
    return _answers_badly(complaint, loaded, answering, cards)


def _answers_badly(
    complaint: str, loaded: str, answering: tuple[Gpu, ...], cards: int
) -> tuple[str, str]:
    """Return the same of a driver that is loaded."""
    if complaint or not answering:
        return (
            complaint or "nvidia-smi is missing or prints nothing",
            "see dmesg for lines of NVRM; reinstall the driver in one version, and reboot",
        )
    if len(answering) < cards:
        return (
            f"{cards} cards are on the bus and the driver answers for {len(answering)}",
            "see dmesg for lines of NVRM about the missing one: power, seat, or fallen off the bus",
        )
    if loaded and loaded != answering[0].driver:
        return (
            f"the kernel has loaded {loaded}, the tools are of {answering[0].driver}",
            "reboot, so that both are of one version",
        )
    return "", ""


def torch(context: Context) -> Iterator[Finding]:
    """Judge whether torch can compute on the cards."""
    found = context.seen.gpus
    if found is None:
        yield context.skipped(TORCH, "no server is planned here")
    elif found.torch is None or not found.torch.version:
        yield context.skipped(TORCH, "no environment with torch is installed here yet")
    elif not asked.wants_gpu(context.fleet, context.host):
        yield context.ok(TORCH, f"torch {found.torch.version}; no server is to use cuda")
    else:
        yield _agreement(context, found, found.torch)


def _agreement(context: Context, found: Gpus, own: Torch) -> Finding:
    cards = gpus(found.query)
    supported = driver_cuda(found.table)
    evidence = f"torch {own.version}"
    if own.cuda is None:
        return context.fail(
            TORCH,
            f"{evidence} is built without CUDA, and a server is to use cuda",
            "let the host's requirements install a build of torch for its CUDA "
            "(docs/decisions/0006-locked-requirements.md)",
        )
    evidence = f"{evidence} for CUDA {own.cuda}"
    major = int(own.cuda.partition(".")[0])
    if supported and supported[0] < major:
        return context.fail(
            TORCH,
            f"{evidence}; the driver supports CUDA {supported[0]}.{supported[1]} at most",
            f"upgrade the driver to one that supports CUDA {major}, or install a build of torch "
            f"for CUDA {supported[0]}",
        )
    if own.answer is None:
        return context.fail(
            TORCH, f"{evidence} gives no answer", f"run it: {own.python} -c 'import torch'"
        )
    if not own.answer.available or own.answer.count < len(cards):
        return context.fail(
            TORCH,
            f"{evidence} sees {own.answer.count} of {len(cards)} GPUs",
            "see gpu.driver; and that the services' account may open /dev/nvidia*",
        )
    strange = [each for each in cards if not _has_code(own, each)]
    if strange:
        names = ", ".join(
            f"{each.name} ({each.capability[0]}.{each.capability[1]})"
            for each in strange
            if each.capability
        )
        return context.fail(
            TORCH,
            f"{evidence} has no code for {names}: {', '.join(own.answer.architectures)}",
            "install a build of torch for another CUDA that has it, or use another card",
        )
    return context.ok(TORCH, f"{evidence} sees {own.answer.count} GPUs")


def _has_code(own: Torch, card: Gpu) -> bool:
    if own.answer is None or card.capability is None:
        return True
    return runs_on(own.answer.architectures, card.capability)
