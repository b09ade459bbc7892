"""What a host's GPUs need: by generation, by what is installed already, and what is refused."""

import json
import re

import pytest

from runtime.cli.project import ROOT
from runtime.spec.answers import Answer, Seen
from runtime.spec.gpus.builds import CPU, TORCH, build_of
from runtime.spec.gpus.decision import CudaPlan, Decision, decide
from runtime.spec.gpus.seen import FILES
from tests.support.gpus import (
    KERNEL,
    TRIXIE,
    UBUNTU,
    broken,
    host,
    plan,
    recorded,
    smi,
)

INSTALLED = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms")
HEADERS = (f"linux-headers-{KERNEL}", "linux-headers-amd64")
RECORD = json.dumps({"present": ["bash"], "packages": [*HEADERS, *INSTALLED], "boot": "first"})


def test_the_table_is_that_of_the_torch_which_is_installed() -> None:
    pinned = (ROOT / "requirements" / "torch.txt").read_text()
    assert re.fullmatch(rf"torch=={re.escape(TORCH)}\.\d+\n", pinned), (
        "torch has another version: look its builds up in its RELEASE.md, and say them in builds.py"
    )


@pytest.mark.parametrize(
    ("card", "cuda", "kind"),
    [
        ("Maxwell", "12.6", "nvidia-kernel-dkms"),
        ("Pascal", "12.6", "nvidia-kernel-dkms"),
        ("Volta", "12.6", "nvidia-kernel-dkms"),
        ("Turing", "13.0", "nvidia-kernel-open-dkms"),
        ("Ampere", "13.0", "nvidia-kernel-open-dkms"),
        ("A100", "13.0", "nvidia-kernel-open-dkms"),
        ("Ada", "13.0", "nvidia-kernel-open-dkms"),
        ("Hopper", "13.0", "nvidia-kernel-open-dkms"),
        ("Blackwell", "13.0", "nvidia-kernel-open-dkms"),
        ("B200", "13.0", "nvidia-kernel-open-dkms"),
    ],
)
def test_each_generation_has_its_driver_its_cuda_and_its_torch(
    card: str, cuda: str, kind: str
) -> None:
    found = decide(plan(), host(card))
    assert found.problem == ""
    assert found.build == build_of(cuda).name
    assert found.setup is not None
    assert found.setup.branch == "580.*"
    assert found.setup.packages == (*HEADERS, "nvidia-driver-cuda", kind)
    assert found.setup.held == ("nvidia-driver-cuda", kind)
    assert found.setup.repository is not None
    assert found.setup.repository.path == "debian12/x86_64"
    assert found.reboot == ""


def test_a_host_without_a_gpu_is_skipped_and_says_so() -> None:
    found = decide(plan(), host())
    assert found == Decision(report="no NVIDIA GPU: skipped, its servers compute on the processor")
    assert found.build == CPU
    nobody = decide(plan(devices=()), host("Ampere"))
    assert "no server here computes on a GPU: skipped" in nobody.report
    assert nobody.setup is None


def test_a_server_that_asks_for_a_gpu_is_refused_where_there_is_none() -> None:
    found = decide(plan(devices=("cuda:1",)), host())
    assert "no NVIDIA GPU, but a server there is to compute on cuda:1" in found.problem
    assert "set its device to cpu or auto" in found.problem


@pytest.mark.parametrize(
    ("driver", "card", "build"),
    [
        ("580.95.05", "Ampere", "cu130"),
        ("535.247.01", "Ampere", "cu126"),
        ("595.71", "Ada", "cu130"),
    ],
)
def test_a_driver_that_works_stays_and_says_which_cuda_there_is(
    driver: str, card: str, build: str
) -> None:
    found = decide(plan(), host(card, driver=smi(driver, card)))
    assert (found.problem, found.build, found.setup) == ("", build, None)
    assert f"its driver {driver} works and stays" in found.report


def test_a_cuda_that_the_driver_does_not_support_is_refused_with_the_fix() -> None:
    seen = host("Ampere", driver=smi("535.247.01", "Ampere"))
    problem = decide(plan(version="13.0"), seen).problem
    assert "host gpu-a: fleet.cuda.version is 13.0, which needs a driver 580.65.06" in problem
    assert "535.247.01" in problem
    assert "set fleet.cuda.version to '12.6', which fits, or upgrade that driver" in problem


def test_a_cuda_without_code_for_the_card_is_refused_with_the_fix() -> None:
    problem = decide(plan(version="13.0"), host("Pascal")).problem
    assert "no code for GeForce GTX 1080 Ti (Pascal, 6.1)" in problem
    assert "set fleet.cuda.version to '12.6'" in problem
    problem = decide(plan(version="12.6"), host("Blackwell")).problem
    assert "no code for GeForce RTX 5090 (Blackwell, 12.0)" in problem
    assert "set fleet.cuda.version to '13.0'" in problem


def test_a_card_that_nothing_supports_is_refused() -> None:
    assert "does not support" in decide(plan(), host("Kepler")).problem or (
        "no driver" in decide(plan(), host("Kepler")).problem
    )
    seen = host("Kepler", driver=smi("470.256.02", "Kepler"))
    assert "no build of torch has code for Kepler (Kepler, 3.5)" in decide(plan(), seen).problem


def test_an_old_driver_that_no_cuda_runs_with_is_refused() -> None:
    problem = decide(plan(), host("Ampere", driver=smi("470.256.02", "Ampere"))).problem
    assert "need CUDA 12.6 or newer, and that a driver 525.60.13 or newer" in problem
    assert "upgrade that driver" in problem


def test_two_cards_get_what_serves_both_or_are_refused() -> None:
    both = decide(plan(), host("Pascal", "Ampere"))
    assert (both.problem, both.build) == ("", "cu126")
    assert both.setup is not None
    # The open modules drive no card before Turing.
    assert "nvidia-kernel-dkms" in both.setup.packages
    modern = decide(plan(), host("Turing", "Blackwell"))
    assert (modern.problem, modern.build) == ("", "cu130")
    never = decide(plan(), host("Pascal", "Blackwell"))
    assert "GeForce GTX 1080 Ti" in never.problem
    assert "in different hosts" in never.problem


def test_a_card_that_one_origin_does_not_drive_is_sent_to_the_other() -> None:
    problem = decide(plan(), host("Pascal", release=TRIXIE)).problem
    assert (
        "the driver 595, which NVIDIA's repository has for debian 13, does not support" in problem
    )
    assert "fleet_host.cuda.driver, to distribution: its driver 550 does" in problem
    found = decide(plan(driver="distribution"), host("Pascal", release=TRIXIE))
    assert (found.problem, found.build) == ("", "cu126")
    assert found.setup is not None
    assert found.setup.repository is None


def test_a_driver_waits_for_a_reboot_and_only_for_one() -> None:
    installed = (*HEADERS, *INSTALLED)
    waiting = decide(
        plan(),
        host("Ampere", driver=broken(), packages=installed, files=recorded(RECORD)),
    )
    assert waiting.problem == ""
    assert waiting.reboot == "driver 580 is installed, but it is not loaded yet"
    after = RECORD.replace("first", "before that")
    failed = decide(
        plan(), host("Ampere", driver=broken(), packages=installed, files=recorded(after))
    )
    assert "does not work although the host has rebooted: NVIDIA-SMI has failed" in failed.problem
    assert "dkms status" in failed.problem


def test_nouveau_is_named_as_what_a_reboot_ends() -> None:
    files = {**recorded(RECORD), "/sys/module/nouveau": ""}
    seen = host("Ampere", driver=broken(), packages=(*HEADERS, *INSTALLED), files=files)
    assert "nouveau holds the cards" in decide(plan(), seen).reboot


def test_a_run_that_was_cut_off_goes_on() -> None:
    # It had noted what was there, and installed nothing; since then somebody has rebooted.
    files = recorded(RECORD.replace("first", "before that"))
    found = decide(plan(), host("Ampere", files=files))
    assert (found.problem, found.reboot) == ("", "")
    assert found.setup is not None
    assert found.setup.present == ("bash",)
    assert found.setup.is_noted is False


def test_a_driver_of_ours_that_works_needs_nothing_more() -> None:
    record = json.dumps({**json.loads(RECORD), "boot": "before", "added": list(INSTALLED)})
    seen = host(
        "Ampere",
        driver=smi("580.95.05", "Ampere"),
        packages=(*HEADERS, *INSTALLED),
        files=recorded(record),
    )
    found = decide(plan(), seen)
    assert (found.problem, found.reboot, found.persistence) == ("", "", True)
    assert found.setup is not None
    assert found.setup.is_noted
    assert found.setup.installed == found.setup.packages


def test_a_broken_driver_of_somebody_else_is_not_touched() -> None:
    found = decide(plan(), host("Ampere", driver=broken()))
    assert "a driver that stagefleet did not install does not work" in found.problem
    assert "couldn't communicate" in found.problem


def test_secure_boot_is_refused_before_anything_is_installed() -> None:
    enabled = Answer(code=0, output="SecureBoot enabled\n")
    problem = decide(plan(), host("Ampere", secure_boot=enabled)).problem
    assert "Secure Boot is on" in problem
    assert "mokutil --import /var/lib/dkms/mok.pub" in problem
    key = Answer(code=1, output="/var/lib/dkms/mok.pub is already enrolled\n")
    enrolled = host("Ampere", secure_boot=enabled)
    answers = {**enrolled.answers, "/var/lib/dkms/mok.pub": key}
    assert decide(plan(), enrolled.model_copy(update={"answers": answers})).problem == ""
    ubuntu = host("Ampere", release=UBUNTU, kernel="6.8.0-45-generic", secure_boot=enabled)
    signed = decide(plan(driver="distribution"), ubuntu)
    assert signed.problem == ""
    assert signed.setup is not None
    assert "linux-modules-nvidia-580-server-open-generic" in signed.setup.packages


@pytest.mark.parametrize(
    ("seen", "asked", "named", "fix"),
    [
        (
            host("Ampere", container=Answer(code=0, output="lxc\n")),
            plan(devices=("cuda",)),
            "it is a container (lxc)",
            "on the machine around it",
        ),
        (
            host("Ampere", release='ID=arch\nVERSION_ID="1"\n'),
            plan(),
            "where a driver for arch 1 on x86_64 comes from",
            "by hand",
        ),
        (
            host("Ampere", machine=Answer(code=0, output="aarch64\n")),
            plan(),
            "on aarch64",
            "by hand",
        ),
        (host("newer"), plan(), "PCIe Faber (10de:3021)", "by hand"),
        (
            host("Ampere"),
            plan(driver="none", devices=("cuda",)),
            "fleet.cuda.driver is none",
            "install.scope system",
        ),
        (
            host("Ampere"),
            plan(is_root=False, devices=("cuda:0",)),
            "there is no root",
            "set the device to cpu",
        ),
        (
            host("Ampere", candidate=Answer(code=0, output="  Candidate: (none)\n")),
            plan(driver="distribution"),
            "no driver in the components",
            "non-free",
        ),
        (
            host("Ampere"),
            plan(toolkit=True, version="13.2"),
            "no toolkit 13.2",
            "leave fleet.cuda.toolkit out",
        ),
    ],
)
def test_what_cannot_be_done_is_said_with_the_fix(
    seen: Seen, asked: CudaPlan, named: str, fix: str
) -> None:
    problem = decide(asked, seen).problem
    assert named in problem
    assert fix in problem


@pytest.mark.parametrize(
    ("seen", "asked", "reason"),
    [
        (host("Ampere"), plan(is_root=False), "there is no driver, and there is no root"),
        (host("Ampere"), plan(driver="none"), "fleet.cuda.driver is none"),
        (host("newer"), plan(is_root=False), "it is not known which driver"),
        (host("Ampere", container=Answer(code=0, output="lxc\n")), plan(), "it is a container"),
        (
            host("Ampere", driver=smi("470.256.02", "Ampere")),
            plan(is_root=False),
            "is too old (470.256.02)",
        ),
    ],
)
def test_a_server_that_may_do_without_does_so_where_nothing_can_be_done(
    seen: Seen, asked: CudaPlan, reason: str
) -> None:
    found = decide(asked, seen)
    assert (found.problem, found.build, found.setup) == ("", CPU, None)
    assert reason in found.report
    assert found.report.endswith(": skipped, its servers compute on the processor")


def test_linux_in_windows_takes_the_driver_of_windows() -> None:
    kernel = "5.15.167.4-microsoft-standard-WSL2"
    found = decide(plan(), host(kernel=kernel, driver=smi("581.15", "Ada")))
    assert (found.problem, found.build, found.setup) == ("", "cu130", None)
    assert found.persistence is None


def test_a_toolkit_is_that_of_the_cuda_which_runs() -> None:
    found = decide(plan(toolkit=True), host("Pascal"))
    assert found.setup is not None
    assert found.setup.packages[-1] == "cuda-toolkit-12-6"


def test_a_repository_that_somebody_has_added_is_not_added_twice() -> None:
    there = "deb https://mirror.example/compute/cuda/repos/debian12/x86_64/ /\n"
    found = decide(plan(), host("Ampere", files={"/etc/apt/sources.list.d/cuda.list": there}))
    assert found.setup is not None
    assert found.setup.repository is None
    ours = decide(plan(), host("Ampere", files={FILES.source: there}))
    assert ours.setup is not None
    assert ours.setup.repository is not None


@pytest.mark.parametrize(
    ("wanted", "mode", "unit", "expected"),
    [
        (True, "Disabled", False, True),
        (True, "Enabled", False, None),
        (True, "Enabled", True, True),
        (False, "Disabled", False, None),
        (False, "Enabled", True, False),
    ],
)
def test_a_driver_is_kept_loaded_by_one_who_sees_to_it(
    wanted: bool, mode: str, unit: bool, expected: bool | None
) -> None:
    driver = smi("580.95.05", "Ampere", persistence=mode)
    seen = host("Ampere", driver=driver, files={FILES.unit: "[Unit]"} if unit else {})
    assert decide(plan(persistence=wanted), seen).persistence is expected
