"""Whoever cannot build a lab is told why, and which command helps."""

import os
import shutil

import pytest

from lab import requirements
from lab.errors import LabError


def machine(monkeypatch: pytest.MonkeyPatch, *, root: bool, programs: set[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(shutil, "which", lambda name, **_: name if name in programs else None)


def test_without_apt_there_is_no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, root=True, programs=set())
    assert "needs Debian or Ubuntu" in str(requirements.obstacle())


def test_without_root_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, root=False, programs={"apt-get", "ip", "ssh", "nsenter"})
    reason = str(requirements.obstacle())
    assert "sudo ./fleet lab up" in reason
    assert "sudo apt-get install systemd-container mmdebstrap apt-utils nftables" in reason
    with pytest.raises(LabError, match="needs root"):
        requirements.install(vm=False)


def test_a_machine_that_has_everything_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, root=True, programs={"apt-get", *requirements.CONTAINERS})
    assert requirements.obstacle() is None
    assert requirements.install(vm=False) == []
    assert requirements.missing(vm=True) == list(requirements.MACHINES.values())
