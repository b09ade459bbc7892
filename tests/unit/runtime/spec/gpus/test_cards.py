"""Cards are known by their numbers, and by their drivers once these work."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.answers import Answer
from runtime.spec.gpus.cards import CHIPS, Capability, Generation, chip_of, generation_of
from runtime.spec.gpus.seen import gpus, running, trouble
from tests.support.gpus import CAPABILITY, LSPCI, MISMATCH, broken, host, smi

GENERATION = {"A100": "Ampere", "B200": "Blackwell"}
capabilities = st.builds(Capability, major=st.integers(1, 20), minor=st.integers(0, 9))


def test_no_two_chips_share_a_number() -> None:
    chips = sorted(CHIPS, key=lambda chip: chip.first)
    assert all(chip.first <= chip.last for chip in chips)
    assert all(one.last < other.first for one, other in pairwise(chips))


@pytest.mark.parametrize("card", sorted(CAPABILITY))
def test_a_card_is_known_by_its_number(card: str) -> None:
    (found,), unknown = gpus(host(card))
    assert unknown == ()
    assert found.generation == GENERATION.get(card, card)
    assert str(found.capability) == CAPABILITY[card]
    # What people call it, without the chip's code name and the sound device beside it.
    assert found.name in LSPCI[card]
    assert "NVIDIA" not in found.name


@pytest.mark.parametrize("card", sorted(CAPABILITY))
def test_its_driver_knows_the_same_of_it(card: str) -> None:
    (by_number,), _ = gpus(host(card))
    (by_driver,), _ = gpus(host(card, driver=smi("580.95.05", card)))
    assert by_driver.slot == by_number.slot
    assert by_driver.generation == by_number.generation
    assert by_driver.capability == by_number.capability


def test_the_kernel_knows_cards_where_there_is_no_lspci() -> None:
    uevents = (
        "PCI_CLASS=C0330\nPCI_ID=8086:A36D\nPCI_SLOT_NAME=0000:00:14.0\n"
        "DRIVER=nouveau\nPCI_CLASS=30000\nPCI_ID=10DE:2204\nPCI_SUBSYS_ID=1462:3881\n"
        "PCI_SLOT_NAME=0000:01:00.0\nMODALIAS=pci:v000010DE\n"
        "PCI_CLASS=40300\nPCI_ID=10DE:1AEF\nPCI_SLOT_NAME=0000:01:00.1\n"
        "PCI_CLASS=30200\nPCI_ID=10DE:1EB8\nPCI_SLOT_NAME=0000:02:00.0\n"
    )
    seen = host(lspci=Answer(), uevents=Answer(code=0, output=uevents))
    found, unknown = gpus(seen)
    assert [(gpu.slot, gpu.name) for gpu in found] == [
        ("0000:01:00.0", "GA102"),
        ("0000:02:00.0", "TU104"),
    ]
    assert unknown == ()


def test_other_devices_of_nvidia_are_no_gpus() -> None:
    text = (
        "0000:01:00.1 Audio device [0403]: NVIDIA Corporation GP102 HDMI Audio Controller "
        "[10de:10ef] (rev a1)\n"
        "0000:0a:00.0 Bridge [0680]: NVIDIA Corporation [H100 NVSwitch] [10de:22a3] (rev a1)\n"
    )
    assert gpus(host(lspci=Answer(code=0, output=text))) == ((), ())


def test_a_card_of_a_generation_to_come_is_named() -> None:
    found, (unknown,) = gpus(host("newer", "Ampere"))
    assert [gpu.generation for gpu in found] == [Generation.AMPERE]
    assert (unknown.name, unknown.number) == ("PCIe Faber", 0x3021)


def test_a_broken_driver_shows_no_card_and_says_why() -> None:
    seen = host("Ampere", driver=broken())
    assert running(seen) == ()
    assert "couldn't communicate" in trouble(seen)
    assert "580.95" in trouble(host("Ampere", driver=broken(MISMATCH)))
    # Nothing is wrong where there is none, or where it works.
    assert trouble(host("Ampere")) == ""
    assert trouble(host("Ampere", driver=smi("580.95.05", "Ampere"))) == ""


@given(capabilities, capabilities)
def test_code_runs_on_its_own_major_version_from_its_minor_on(
    gpu: Capability, code: Capability
) -> None:
    same_major = gpu.major == code.major
    assert gpu.runs(code) is (same_major and gpu.minor >= code.minor)
    assert Capability.of(str(gpu)) == gpu


@given(capabilities)
def test_every_capability_has_a_generation(capability: Capability) -> None:
    # Of one that is not known yet, the generation before it.
    assert generation_of(capability) in Generation


@given(st.integers(0, 0xFFFF))
def test_a_number_is_of_one_chip_or_none(number: int) -> None:
    chip = chip_of(number)
    assert chip is None or generation_of(chip.capability) is chip.generation
