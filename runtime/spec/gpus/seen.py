"""What is asked of a host about its GPUs, and what its answers mean."""

import re
from collections.abc import Iterator
from typing import Final

from runtime.spec.answers import Probe, Questions, Seen, error_of
from runtime.spec.base import Frozen
from runtime.spec.gpus.cards import VENDOR, Capability, Gpu, chip_of, generation_of


class CudaFiles(Frozen):
    """Everything that is written on a host for its GPUs; fleets of one host share it.

    Attributes:
        state: the directory of what is needed to put back what was there before.
        record: what was installed when the first package of ours came, and what came.
        source: where apt finds NVIDIA's repository.
        key: the key that signs it.
        preferences: the branch that apt stays with.
        unit: what keeps the driver loaded.
    """

    state: str = "/var/lib/stagefleet-cuda"
    record: str = "/var/lib/stagefleet-cuda/record.json"
    source: str = "/etc/apt/sources.list.d/stagefleet-cuda.sources"
    key: str = "/etc/apt/keyrings/stagefleet-cuda.gpg"
    preferences: str = "/etc/apt/preferences.d/stagefleet-cuda"
    unit: str = "/etc/systemd/system/stagefleet-gpu-persistence.service"


FILES: Final = CudaFiles()
_APT: Final = ("/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources")
_DRIVER: Final = "/proc/driver/nvidia/version"
_BOOT: Final = "/proc/sys/kernel/random/boot_id"
_RELEASE: Final = "/etc/os-release"
_SYSTEMD: Final = "/run/systemd/system"
_NOUVEAU: Final = "/sys/module/nouveau"
# A keyring of Debian's and one of Ubuntu's: where DKMS keeps the key that it signs modules with.
_SIGNING_KEYS: Final = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")
_DISPLAY_CLASSES: Final = (0x0300, 0x0302)  # a VGA controller, a 3D controller

_FIELDS: Final = "pci.bus_id,name,driver_version,compute_cap,persistence_mode"
_SMI: Final = Probe(
    name="nvidia-smi",
    command=("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader"),
)
_LSPCI: Final = Probe(name="lspci", command=("lspci", "-Dnn", "-d", f"{VENDOR:04x}:"))
# The kernel's own words, for hosts without lspci.
_UEVENTS: Final = Probe(
    name="uevents",
    command=(
        *("find", "-L", "/sys/bus/pci/devices", "-mindepth", "2", "-maxdepth", "2"),
        *("-name", "uevent", "-exec", "cat", "{}", "+"),
    ),
)
_PACKAGES: Final = Probe(
    name="packages",
    command=("dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\\n"),
)
_CANDIDATE: Final = Probe(name="candidate", command=("apt-cache", "policy", "nvidia-kernel-dkms"))
_SECURE_BOOT: Final = Probe(name="secure boot", command=("mokutil", "--sb-state"))
_ENROLLED: Final = tuple(
    Probe(name=path, command=("mokutil", "--test-key", path)) for path in _SIGNING_KEYS
)
_CONTAINER: Final = Probe(name="container", command=("systemd-detect-virt", "--container"))
_KERNEL: Final = Probe(name="kernel", command=("uname", "-r"))
_MACHINE: Final = Probe(name="machine", command=("uname", "-m"))

QUESTIONS: Final = Questions(
    probes=(
        *(_LSPCI, _UEVENTS, _SMI, _PACKAGES, _CANDIDATE, _SECURE_BOOT),
        *(*_ENROLLED, _CONTAINER, _KERNEL, _MACHINE),
    ),
    files=(FILES.record, FILES.unit, *_APT, _DRIVER, _BOOT, _RELEASE, _SYSTEMD, _NOUVEAU),
)
"""Everything that is asked; nothing of it changes a host, and none of it needs root."""


class Device(Frozen):
    """A graphics device of NVIDIA's, as the bus shows it."""

    slot: str
    number: int
    name: str


class Running(Frozen):
    """One card as its driver shows it."""

    slot: str
    name: str
    driver: str
    capability: Capability
    persistent: bool


def devices(seen: Seen) -> tuple[Device, ...]:
    """Return NVIDIA's graphics devices on the bus, in the order of their slots."""
    listed = seen.answer(_LSPCI.name)
    found = _of_lspci(listed.output) if listed.code == 0 else _of_uevents(seen)
    return tuple(sorted(found, key=lambda device: device.slot))


def _of_lspci(text: str) -> Iterator[Device]:
    pattern = re.compile(r"^(\S+) [^\[]*\[([0-9a-f]{4})\]: (.*) \[10de:([0-9a-f]{4})\]")
    for line in text.splitlines():
        match = pattern.match(line)
        if match and int(match[2], 16) in _DISPLAY_CLASSES:
            # "GA102 [GeForce RTX 3090]": what people call it is in the brackets.
            name = match[3].removeprefix("NVIDIA Corporation ")
            bracketed = re.search(r"\[(.+)\]$", name)
            yield Device(
                slot=match[1], number=int(match[4], 16), name=bracketed[1] if bracketed else name
            )


def _of_uevents(seen: Seen) -> Iterator[Device]:
    # One device after the other, each with its class before its number and its place after it.
    kind, number = 0, 0
    for line in seen.answer(_UEVENTS.name).output.splitlines():
        key, _, value = line.partition("=")
        if key == "PCI_CLASS":
            kind, number = int(value, 16) >> 8, 0
        elif key == "PCI_ID" and value.upper().startswith(f"{VENDOR:04X}:"):
            number = int(value.partition(":")[2], 16)
        elif key == "PCI_SLOT_NAME" and number and kind in _DISPLAY_CLASSES:
            chip = chip_of(number)
            name = chip.name if chip else f"device 10de:{number:04x}"
            yield Device(slot=value, number=number, name=name)


def running(seen: Seen) -> tuple[Running, ...]:
    """Return the cards that a working driver shows; none: there is no driver, or it is broken."""
    answer = seen.answer(_SMI.name)
    if answer.code != 0:
        return ()
    return tuple(
        Running(
            # It writes the bus's domain with eight digits, everybody else with four.
            slot=slot.strip().lower()[-12:],
            name=name.strip().removeprefix("NVIDIA "),
            driver=driver.strip(),
            capability=Capability.of(capability),
            persistent=mode.strip() == "Enabled",
        )
        for line in answer.output.splitlines()
        if line.count(",") == _FIELDS.count(",")
        for slot, name, driver, capability, mode in (line.split(","),)
    )


def gpus(seen: Seen) -> tuple[tuple[Gpu, ...], tuple[Device, ...]]:
    """Return the GPUs of a host, and the devices of which nobody knows what they are.

    A working driver knows best; it also shows cards that no bus shows, as in WSL.
    """
    shown = running(seen)
    if shown:
        return tuple(
            Gpu(
                slot=card.slot,
                name=card.name,
                generation=generation_of(card.capability),
                capability=card.capability,
            )
            for card in shown
        ), ()
    known, unknown = [], []
    for device in devices(seen):
        chip = chip_of(device.number)
        if chip is None:
            unknown.append(device)
            continue
        known.append(
            Gpu(
                slot=device.slot,
                name=device.name,
                generation=chip.generation,
                capability=chip.capability,
            )
        )
    return tuple(known), tuple(unknown)


def trouble(seen: Seen) -> str:
    """Return what a driver that is there but does not work says, or nothing."""
    answer = seen.answer(_SMI.name)
    if answer.code is None or running(seen):
        return ""
    return error_of(answer)


def system(seen: Seen) -> tuple[str, str]:
    """Return the distribution and its version, such as ("debian", "12")."""
    said = dict(
        line.split("=", 1) for line in seen.files.get(_RELEASE, "").splitlines() if "=" in line
    )
    return said.get("ID", "").strip('"'), said.get("VERSION_ID", "").strip('"')


def kernel(seen: Seen) -> str:
    """Return the release of the kernel that runs."""
    return seen.answer(_KERNEL.name).output.strip()


def machine(seen: Seen) -> str:
    """Return the processor's architecture, such as x86_64."""
    return seen.answer(_MACHINE.name).output.strip()


def is_windows(seen: Seen) -> bool:
    """Return whether it is a Linux in Windows, whose driver is Windows' own."""
    return "microsoft" in kernel(seen).lower()


def container(seen: Seen) -> str:
    """Return what kind of container it is, whose kernel is another machine's, or nothing."""
    answer = seen.answer(_CONTAINER.name)
    return answer.output.strip() if answer.code == 0 else ""


def has_systemd(seen: Seen) -> bool:
    """Return whether systemd runs it."""
    return _SYSTEMD in seen.files


def boot(seen: Seen) -> str:
    """Return what tells this start of the system from others."""
    return seen.files.get(_BOOT, "").strip()


def packages(seen: Seen) -> frozenset[str]:
    """Return the names of the packages that are installed."""
    return frozenset(
        name
        for line in seen.answer(_PACKAGES.name).output.splitlines()
        for state, _, name in (line.partition(" "),)
        if state[1:2] == "i"
        for name in (name.strip(),)
    )


def has_candidate(seen: Seen) -> bool:
    """Return whether the system's own repositories have NVIDIA's driver."""
    answer = seen.answer(_CANDIDATE.name)
    found = re.search(r"Candidate: (\S+)", answer.output)
    return found is not None and found[1] != "(none)"


def refuses_modules(seen: Seen) -> bool:
    """Return whether Secure Boot refuses the modules that would be built on the host."""
    state = seen.answer(_SECURE_BOOT.name)
    enrolled = (
        "already enrolled" in f"{answer.output}{answer.error}"
        for answer in (seen.answer(probe.name) for probe in _ENROLLED)
    )
    return "SecureBoot enabled" in state.output and not any(enrolled)


def nouveau_runs(seen: Seen) -> bool:
    """Return whether the kernel's own driver holds the cards, until the next start."""
    return _NOUVEAU in seen.files


def others_source(seen: Seen, path: str) -> str:
    """Return the file in which somebody else has added a repository already, or nothing."""
    return next(
        (
            file
            for file, text in sorted(seen.files.items())
            if file.startswith("/etc/apt/") and file != FILES.source and path in text
        ),
        "",
    )


def keeps_loaded(seen: Seen) -> bool:
    """Return whether the unit of ours that keeps the driver loaded is there."""
    return FILES.unit in seen.files
