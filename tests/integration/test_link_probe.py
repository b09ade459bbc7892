"""Links that are measured for real: two hosts in namespaces, and a router or a switch between."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.checks.link_check import PROGRAM
from runtime.checks.link_probe import largest
from runtime.spec.services import PROOF

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"
)
_PREFIX = f"sf{os.getpid()}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


def name(part: str) -> str:
    return f"{_PREFIX}-{part}"


def run(part: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run the program in a namespace as a host does: its text, and nothing of this project."""
    python = [sys.executable, "-I", "-S", "-c", Path(PROGRAM).read_text()]
    done = subprocess.run(
        ["ip", "netns", "exec", name(part), *python],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cable(one: str, card: str, other: str, far_card: str, mtu: int = 9000) -> None:
    ip(
        *("-n", name(one), "link", "add", card, "mtu", str(mtu), "type", "veth"),
        *("peer", "name", far_card, "netns", name(other)),
    )
    ip("-n", name(other), "link", "set", far_card, "mtu", str(mtu), "up")
    ip("-n", name(one), "link", "set", card, "up")


def address(part: str, card: str, *addresses: str) -> None:
    for each in addresses:
        nodad = ("nodad",) if ":" in each else ()
        ip("-n", name(part), "address", "add", each, "dev", card, *nodad)


@pytest.fixture
def parts() -> Iterator[None]:
    """Two hosts, and what is between them: a namespace each, with nothing in it."""
    for part in ("left", "middle", "right"):
        ip("netns", "add", name(part))
        ip("-n", name(part), "link", "set", "lo", "up")
    yield
    for part in ("left", "middle", "right"):
        ip("netns", "delete", name(part))


@pytest.fixture
def switch(parts: None) -> None:
    """A bridge between the hosts, whose ports pass 9000 bytes."""
    assert parts is None
    ip("-n", name("middle"), "link", "add", "switch", "mtu", "9000", "type", "bridge")
    ip("-n", name("middle"), "link", "set", "switch", "up")
    for number, part in enumerate(("left", "right"), start=1):
        cable(part, "data0", "middle", f"port{number}")
        ip("-n", name("middle"), "link", "set", f"port{number}", "master", "switch")
        address(part, "data0", f"10.9.9.{number}/24", f"fd09::{number}/64")


def way(target: str = "10.9.9.2", source: str = "10.9.9.1", **more: Any) -> dict[str, Any]:
    return {
        "id": "way",
        "address": target,
        "source": source,
        "port": PROOF.port,
        "mtu": 9000,
        "seconds": 0,
        "streams": 2,
        "tool": "own",
    } | more


def measured(part: str = "left", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = run(part, {"send": [way(**more)]})["ways"]["way"]
    return found


@pytest.mark.parametrize(
    ("source", "target"), [("10.9.9.1", "10.9.9.2"), ("fd09::1", "fd09::2")], ids=["4", "6"]
)
def test_full_packets_pass_and_round_trips_are_counted(
    switch: None, source: str, target: str
) -> None:
    assert switch is None
    found = measured(source=source, target=target)
    assert found["passes"] == 9000, found
    trips = found["rtt_ms"]
    assert trips["answered"] == trips["sent"] > 0
    assert 0 < trips["p50"] <= trips["p99"]


def test_a_port_that_passes_less_is_measured_to_the_byte(switch: None) -> None:
    assert switch is None
    ip("-n", name("middle"), "link", "set", "port2", "mtu", "4321")
    found = measured()
    assert (found["own_limit"], found["hop"]) == (False, None)
    # A switch leaves room for a tag.
    assert found["passes"] in (4321, 4325)


def test_an_own_interface_that_is_smaller_says_so(switch: None) -> None:
    assert switch is None
    ip("-n", name("left"), "link", "set", "data0", "mtu", "1500")
    found = measured()
    assert (found["passes"], found["own_limit"]) == (1500, True)


def test_a_router_names_itself(parts: None) -> None:
    assert parts is None
    cable("left", "data0", "middle", "port1")
    cable("right", "data0", "middle", "port2", mtu=1500)
    address("left", "data0", "10.9.1.1/24")
    address("middle", "port1", "10.9.1.254/24")
    address("middle", "port2", "10.9.2.254/24")
    address("right", "data0", "10.9.2.1/24")
    ip("-n", name("left"), "route", "add", "default", "via", "10.9.1.254")
    ip("-n", name("right"), "route", "add", "default", "via", "10.9.2.254")
    forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1"]
    subprocess.run(["ip", "netns", "exec", name("middle"), *forward], check=True, timeout=20)
    found = measured(source="10.9.1.1", target="10.9.2.1")
    assert found["passes"] == 1500
    assert found["hop"] == {"address": "10.9.1.254", "mtu": 1500}


def test_nobody_there_is_nothing_that_passes(switch: None) -> None:
    assert switch is None
    found = measured(target="10.9.9.77")
    assert found["passes"] == 0
    assert "rtt_ms" not in found


def test_streams_of_our_own_bring_bytes_over_and_the_receiver_ends(switch: None) -> None:
    assert switch is None
    wanted = {"address": "10.9.9.2", "port": PROOF.port, "tool": "own", "seconds": 60}
    receiver = run("right", {"receive": wanted})
    assert receiver["problem"] == ""
    taken = run("right", {"receive": wanted})
    assert taken["receiver"] is None
    assert "cannot be opened: Address already in use" in taken["problem"]
    tcp = measured(seconds=1)["tcp"]
    assert tcp["gbps"] > 0.01
    assert tcp["retransmits"] >= 0
    assert tcp["cpu_here"] > 0
    run("right", {"end": [receiver["receiver"]]})
    assert "Connection refused" in measured(seconds=1)["problem"]


def test_interfaces_tell_what_they_are(switch: None) -> None:
    assert switch is None
    found = run("left", {"look": ["data0", "data9"]})["interfaces"]
    assert (found["data0"]["mtu"], found["data0"]["carrier"]) == (9000, 1)
    assert found["data0"]["counters"]["rx_errors"] == 0
    assert found["data9"]["mtu"] is None


@pytest.mark.parametrize("most", [0, 576, 577, 1499, 1500, 1501, 4321, 8999])
def test_the_largest_is_found_in_few_steps(most: int) -> None:
    tried = []

    def passes(length: int) -> bool:
        tried.append(length)
        return length <= most

    assert largest(passes, 576, 9000) == (most if most >= 576 else 0)
    assert len(tried) <= 16
