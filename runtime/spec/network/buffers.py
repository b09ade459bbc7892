"""How much a host's TCP may keep in flight: computed from what its links are, not copied.

A connection is as fast as its link if it may have as many bytes in flight as the link carries
during a round trip. The kernel raises buffers up to a most by itself, so that only the most has to
be told, and only where its own is too small.
"""

from typing import Final

from runtime.spec.base import Frozen
from runtime.spec.network.declared import Buffers

_READ: Final = "net.ipv4.tcp_rmem"
_WRITE: Final = "net.ipv4.tcp_wmem"
_READ_ANY: Final = "net.core.rmem_max"
_WRITE_ANY: Final = "net.core.wmem_max"
_PROBING: Final = "net.ipv4.tcp_mtu_probing"
_CONTROL: Final = "net.ipv4.tcp_congestion_control"
_QUEUEING: Final = "net.core.default_qdisc"
_BACKLOG: Final = "net.core.netdev_max_backlog"
KEYS: Final = (*(_READ, _WRITE, _READ_ANY, _WRITE_ANY, _PROBING, _CONTROL, _QUEUEING, _BACKLOG),)
"""Every key that any profile sets."""

KERNEL_MOST: Final = {_READ: 6 * 2**20, _WRITE: 4 * 2**20}
"""In bytes: what Linux's tcp_init() sets on a machine with enough memory (net/ipv4/tcp.c)."""
_LEAST: Final = {_READ: (4096, 131072), _WRITE: (4096, 16384)}
# Half of a buffer is room for the kernel's own bookkeeping of packets (tcp_adv_win_scale = 1, in
# its documentation ip-sysctl.rst).
_OVERHEAD: Final = 2
MOST: Final = 512 * 2**20
"""In bytes: what no buffer is made larger than, so that a wrong number cannot take a host's
memory: 100 Gb/s over 20 ms twice."""
LONG_PATH_MS: Final = 10.0
"""In milliseconds: from here on, recovering from a loss takes CUBIC longer than people wait: its
window regrows over tens of round trips. BBR does not shrink it for a single loss. On a cable or a
switch the round trip is below one, and what is lost is repaired before anybody notices."""
_STANDARD_MTU: Final = 1500

GUIDES: Final = {
    _READ_ANY: "134217728",
    _WRITE_ANY: "134217728",
    _READ: "4096 87380 134217728",
    _WRITE: "4096 65536 134217728",
    _BACKLOG: "5000",
    _CONTROL: "bbr",
}
"""The fixed values of guides for 10GbE: 128 MB are right for 10 Gb/s over 54 ms, an ocean; on a
cable they let one connection queue a hundredfold of what the link holds."""


class Path(Frozen):
    """What a link's buffers follow from.

    Attributes:
        speed_gbps: of the link, in Gb/s; None: not known.
        rtt_ms: of the longest of its round trips, in milliseconds; None: not known.
        mtu: in bytes; None: as it is.
    """

    speed_gbps: float | None
    rtt_ms: float | None
    mtu: int | None


def in_flight(speed_gbps: float, rtt_ms: float) -> int:
    """Return how many bytes a link carries during a round trip, rounded up."""
    return int(speed_gbps * 1e9 / 8 * rtt_ms / 1e3) + 1


def buffer(speed_gbps: float, rtt_ms: float) -> int:
    """Return the buffer that fills such a link, in bytes: a power of two, and `MOST` at most."""
    needed = _OVERHEAD * in_flight(speed_gbps, rtt_ms)
    return min(MOST, 1 << (needed - 1).bit_length())


def sysctls(
    profile: Buffers, paths: tuple[Path, ...], now: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the settings of a host with these paths; what the kernel does well is not among them.

    Args:
        profile: computed; guides: the fixed values; none: nothing.
        paths: one for each link.
        now: what an earlier run has set. A measured round trip varies from run to run: a buffer
            that is large enough and not four times too large stays.
    """
    if profile == "none" or not paths:
        return {}
    if profile == "guides":
        return dict(GUIDES)
    before = now or {}
    known = [
        (each.speed_gbps, each.rtt_ms)
        for each in paths
        if each.speed_gbps is not None and each.rtt_ms is not None
    ]
    # A neighbour that is off today says nothing about what its path needs.
    all_known = len(known) == len(paths)
    needed = max((buffer(speed, rtt) for speed, rtt in known), default=0)
    found: dict[str, str] = {}
    for key, any_key in ((_READ, _READ_ANY), (_WRITE, _WRITE_ANY)):
        most = _kept(needed, before.get(key, ""), all_known)
        if most > KERNEL_MOST[key]:
            found[key] = " ".join(map(str, (*_LEAST[key], most)))
            # For programs that ask for a size themselves, as measuring ones do.
            found[any_key] = str(most)
    if any(each.mtu is not None and each.mtu > _STANDARD_MTU for each in paths):
        # Where a hop silently drops large packets, connections become slow and do not hang.
        found[_PROBING] = "1"
    longest = max((rtt for _, rtt in known), default=0.0)
    was_long = _CONTROL in before
    if longest >= (LONG_PATH_MS / 2 if was_long else LONG_PATH_MS) or (was_long and not all_known):
        found[_CONTROL] = "bbr"
        found[_QUEUEING] = "fq"
    return found


def _kept(needed: int, set_before: str, all_known: bool) -> int:
    """Return what is needed, or what was set before where that still fits."""
    words = set_before.split()
    before = int(words[-1]) if words else 0
    fits = needed <= before and (before <= 4 * needed or not all_known)
    return before if fits else needed
