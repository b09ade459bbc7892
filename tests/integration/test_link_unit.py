"""What the unit of data links does, done for real: to an interface of a namespace, and back."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.spec.network.files import (
    REFUSED,
    SYSCTLS,
    Applied,
    Manager,
    apply_text,
    refused_of,
    sysctl_text,
)
from runtime.spec.network.record import Before, LinkState, restoring

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"
)
_NAME = f"sf{os.getpid()}-unit"
_PROBING = "net.ipv4.tcp_mtu_probing"
_ADDRESS = "10.99.7.1/30"


def inside(*command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", _NAME, *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def host() -> Iterator[None]:
    """A namespace with two interfaces that are joined, and nobody who manages them."""
    subprocess.run(["ip", "netns", "add", _NAME], check=True, timeout=20)
    try:
        inside("ip", "link", "add", "data0", "mtu", "1500", "type", "veth", "peer", "name", "far")
        inside("ip", "link", "set", "far", "mtu", "9000", "up")
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", _NAME], check=True, timeout=20)


def state() -> dict[str, object]:
    (link,) = json.loads(inside("ip", "-json", "address", "show", "dev", "data0"))
    addresses = [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
    return {
        "mtu": link["mtu"],
        "up": "UP" in link["flags"],
        "addresses": [each for each in addresses if not each.startswith("fe80")],
        "probing": inside("sysctl", "-n", _PROBING).strip(),
    }


def test_a_link_that_nobody_manages_is_set_again_at_each_start_and_put_back(
    host: None, tmp_path: Path
) -> None:
    assert host is None
    before = state()
    assert (before["mtu"], before["addresses"]) == (1500, [])
    script = apply_text([Applied("data0", _ADDRESS, 9000, Manager.NOBODY, ())])
    script = script.replace(REFUSED, str(tmp_path / "refused"))
    script = script.replace(SYSCTLS, str(tmp_path / "sysctls"))
    wanted = {_PROBING: "1", "net.ipv4.there_is_no_such_key": "1"}
    (tmp_path / "sysctls").write_text(sysctl_text(wanted))
    for _ in range(2):
        inside("sh", "-c", script)
        assert state() == {
            "mtu": 9000,
            "up": True,
            "addresses": [_ADDRESS],
            "probing": "1",
        }
    (refused,) = refused_of((tmp_path / "refused").read_text())
    assert refused == ("net.ipv4.there_is_no_such_key", "1")

    was = Before(
        fleet="lab",
        files=(),
        links={"data0": LinkState(mtu=1500, up=bool(before["up"]), addresses=(), told={})},
        networkd=(),
        manager=False,
        sysctls={_PROBING: str(before["probing"])},
    )
    inside("sh", "-c", "\n".join(restoring(was, {"data0": _ADDRESS})))
    assert state() == before


def test_a_link_that_cannot_be_what_it_should_be_fails_the_unit(host: None, tmp_path: Path) -> None:
    assert host is None
    script = apply_text([Applied("data0", _ADDRESS, 65535 * 2, Manager.NOBODY, ())])
    script = script.replace(REFUSED, str(tmp_path / "refused")).replace("seq 40", "seq 1")
    done = subprocess.run(
        ["ip", "netns", "exec", _NAME, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "failed: ip link set dev data0 mtu 131070" in done.stderr
    assert "data0 has MTU 1500" in done.stderr
