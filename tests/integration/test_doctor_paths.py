"""The doctor's packets through real links: two namespaces, and a hop between them."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from runtime.checks.doctor.asked import program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
]

_LEFT, _HOP, _RIGHT = "sfdoctor-l", "sfdoctor-h", "sfdoctor-r"
_SCRIPT = f"""
ip netns add {_LEFT}; ip netns add {_HOP}; ip netns add {_RIGHT}
ip -n {_LEFT} link add left mtu 9000 type veth peer name to-left netns {_HOP}
ip -n {_RIGHT} link add right mtu 9000 type veth peer name to-right netns {_HOP}
ip -n {_HOP} link set to-left mtu 9000 up
ip -n {_HOP} link set to-right mtu 9000 up
ip -n {_HOP} address add 10.99.1.1/24 dev to-left
ip -n {_HOP} address add 10.99.2.1/24 dev to-right
ip -n {_LEFT} address add 10.99.1.2/24 dev left; ip -n {_LEFT} link set left up
ip -n {_RIGHT} address add 10.99.2.2/24 dev right; ip -n {_RIGHT} link set right up
ip -n {_LEFT} route add default via 10.99.1.1; ip -n {_RIGHT} route add default via 10.99.2.1
ip netns exec {_HOP} sysctl -qw net.ipv4.ip_forward=1
"""


def run(script: str) -> None:
    subprocess.run(["sh", "-euc", script], check=True, timeout=60)


@pytest.fixture
def hop() -> Iterator[str]:
    """Two ends that carry 9000 bytes, and between them a router that does too."""
    end = f"for each in {_LEFT} {_HOP} {_RIGHT}; do ip netns delete $each 2>/dev/null || true; done"
    run(end)
    run(_SCRIPT)
    yield _HOP
    run(end)


def path_to(address: str) -> dict[str, object]:
    """Return what the program sees of the way from the left end to an address."""
    done = subprocess.run(
        ["ip", "netns", "exec", _LEFT, "/usr/bin/python3", "-c", program()],
        input=json.dumps({"paths": [{"id": "it", "address": address}]}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)["paths"]["it"]
    return found


def test_the_largest_packet_is_found_whatever_lets_less_through(hop: str) -> None:
    found = path_to("10.99.2.2")
    assert (found["link"], found["largest"], found["problem"]) == (9000, 9000, "")
    # A hop that says so, and one that only drops: what a switch does.
    run(f"ip -n {hop} link set to-right mtu 1500")
    assert path_to("10.99.2.2")["largest"] == 1500
    run(f"ip -n {hop} link set to-right mtu 9000")
    drop = "add rule netdev t c meta length > 4321 drop"
    chain = "add chain netdev t c { type filter hook ingress device to-left priority 0; }"
    run(f"ip netns exec {hop} nft 'add table netdev t; {chain}; {drop}'")
    # What a bridge counts has an Ethernet header less or more; a packet has not.
    assert path_to("10.99.2.2")["largest"] in (4321 - 14, 4321)
    assert path_to("10.99.2.77")["problem"] != ""
