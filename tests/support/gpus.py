"""Hosts with GPUs, by what their programs print: lspci, nvidia-smi and the others that are asked.

The lines of lspci have the form of `lspci -Dnn` and the names of the PCI ID Project's list.
"""

from runtime.spec.answers import Answer, Seen
from runtime.spec.gpus.decision import CudaPlan, cuda_plan
from runtime.spec.gpus.seen import FILES
from runtime.spec.gpus.wanted import Cuda

_VGA, _3D = "VGA compatible controller [0300]", "3D controller [0302]"
LSPCI = {
    "Kepler": f"{_3D}: NVIDIA Corporation GK210GL [Tesla K80] [10de:102d] (rev a1)",
    "Maxwell": f"{_VGA}: NVIDIA Corporation GM204 [GeForce GTX 970] [10de:13c2] (rev a1)",
    "Pascal": f"{_VGA}: NVIDIA Corporation GP102 [GeForce GTX 1080 Ti] [10de:1b06] (rev a1)",
    "Volta": f"{_3D}: NVIDIA Corporation GV100GL [Tesla V100 SXM2 16GB] [10de:1db1] (rev a1)",
    "Turing": f"{_3D}: NVIDIA Corporation TU104GL [Tesla T4] [10de:1eb8] (rev a1)",
    "Ampere": f"{_VGA}: NVIDIA Corporation GA102 [GeForce RTX 3090] [10de:2204] (rev a1)",
    "A100": f"{_3D}: NVIDIA Corporation GA100 [A100 PCIe 40GB] [10de:20f1] (rev a1)",
    "Ada": f"{_VGA}: NVIDIA Corporation AD102 [GeForce RTX 4090] [10de:2684] (rev a1)",
    "Hopper": f"{_3D}: NVIDIA Corporation GH100 [H100 PCIe] [10de:2331] (rev a1)",
    "Blackwell": f"{_VGA}: NVIDIA Corporation GB202 [GeForce RTX 5090] [10de:2b85] (rev a1)",
    "B200": f"{_3D}: NVIDIA Corporation GB100 [B200] [10de:2901] (rev a1)",
    "newer": f"{_3D}: NVIDIA Corporation GR100 [PCIe Faber] [10de:3021] (rev a1)",
}
"""What lspci prints of one card, by its generation or its name."""

CAPABILITY = {
    "Kepler": "3.5",
    "Maxwell": "5.2",
    "Pascal": "6.1",
    "Volta": "7.0",
    "Turing": "7.5",
    "Ampere": "8.6",
    "A100": "8.0",
    "Ada": "8.9",
    "Hopper": "9.0",
    "Blackwell": "12.0",
    "B200": "10.0",
}

NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n"
)
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
TRIXIE = 'ID=debian\nVERSION_ID="13"\n'
UBUNTU = 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\n'
KERNEL = "6.1.0-37-amd64"
SYSTEMD = {"/run/systemd/system": ""}


def lspci(*cards: str) -> str:
    """Return what lspci prints of a host with these cards, each with its sound device."""
    lines = []
    for number, card in enumerate(cards, start=1):
        lines.append(f"0000:{number:02x}:00.0 {LSPCI[card]}")
        sound = "Audio device [0403]: NVIDIA Corporation Audio Controller [10de:10ef] (rev a1)"
        lines.append(f"0000:{number:02x}:00.1 {sound}")
    return "".join(f"{line}\n" for line in lines)


def smi(driver: str, *cards: str, persistence: str = "Disabled") -> Answer:
    """Return what nvidia-smi answers with a driver that works."""
    return Answer(
        code=0,
        output="".join(
            f"00000000:{number:02X}:00.0, NVIDIA {card}, {driver}, {CAPABILITY[card]}, "
            f"{persistence}\n"
            for number, card in enumerate(cards, start=1)
        ),
    )


def broken(text: str = NOT_LOADED) -> Answer:
    """Return what nvidia-smi answers with a driver that does not work."""
    return Answer(code=9, output=text)


def host(
    *cards: str,
    release: str = DEBIAN,
    kernel: str = KERNEL,
    driver: Answer | None = None,
    packages: tuple[str, ...] = ("bash",),
    files: dict[str, str] | None = None,
    **answers: Answer,
) -> Seen:
    """Return what a host says; `answers` are by the names of the probes."""
    said = {
        "lspci": Answer(code=0, output=lspci(*cards)),
        "nvidia-smi": driver or Answer(),
        "packages": Answer(code=0, output="".join(f"ii  {name}\n" for name in packages)),
        "kernel": Answer(code=0, output=f"{kernel}\n"),
        "machine": Answer(code=0, output="x86_64\n"),
        "container": Answer(code=1, output="none\n"),
        "secure boot": Answer(code=0, output="SecureBoot disabled\n"),
        "candidate": Answer(code=0, output="nvidia-kernel-dkms:\n  Candidate: 535.247.01-1\n"),
        **{name.replace("_", " "): answer for name, answer in answers.items()},
    }
    always = {"/etc/os-release": release, "/proc/sys/kernel/random/boot_id": "first\n", **SYSTEMD}
    return Seen(answers=said, files={**always, **(files or {})})


def plan(devices: tuple[str, ...] = ("auto",), is_root: bool = True, **wanted: object) -> CudaPlan:
    """Return the plan of a host whose servers compute on these devices."""
    return cuda_plan("lab", "gpu-a", devices, Cuda.model_validate(wanted), is_root)


def recorded(text: str) -> dict[str, str]:
    """Return the file in which it is noted that stagefleet has installed a driver."""
    return {FILES.record: text}
