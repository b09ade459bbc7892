"""What a link is expected to carry, what it carried, and which side is at fault if that is less."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from runtime.spec.base import Frozen

_HEADERS: Final = {4: 20 + 20 + 12, 6: 40 + 20 + 12}
"""In bytes: of IP (RFC 791, 8200), of TCP and of its timestamps (RFC 7323), in every packet."""
_FRAME: Final = 38
"""In bytes, around every packet on Ethernet: preamble 8, header 14, checksum 4, gap 12
(IEEE 802.3)."""
ENOUGH: Final = 0.99
"""The share of the most that a link must bring: at 10 Gb/s and MTU 9000 that is 9.8 Gb/s, which
MTU 1500 cannot reach. What is missing is for slow start and acknowledgements of the other way."""
_BUSY: Final = 90.0
"""In percent of a core: from here on, a processor and not the link may be what limits."""
_BETWEEN: Final = "the path between them"


class Verdict(StrEnum):
    """What is known of one direction of a link, the worst last."""

    OK = "ok"
    UNKNOWN = "unknown"
    BAD = "bad"


class Way(Frozen):
    """One direction of a link that has to be proven.

    Attributes:
        mtu: in bytes, what has to pass; None: what the interface has.
        speed_gbps: what the inventory says, in Gb/s; None: what the cards say.
        version: of the Internet Protocol, 4 or 6.
    """

    id: str
    source: str
    target: str
    network: str
    source_interface: str
    target_interface: str
    source_address: str
    target_address: str
    mtu: int | None
    speed_gbps: float | None
    version: int = 4


class End(Frozen):
    """What a host says of its interface.

    Attributes:
        mtu: in bytes; None: there is no such interface.
        carrier: something is plugged in and answers.
        speed_gbps: what the card has agreed on, in Gb/s; None: it does not say.
        errors: what the interface has counted during the check, by the kernel's names.
        asked: the host has said so; otherwise nothing is known of it.
    """

    mtu: int | None = None
    carrier: bool = False
    speed_gbps: float | None = None
    errors: dict[str, int] = Field(default_factory=dict)
    asked: bool = True


class Row(Frozen):
    """One direction of a link: what was found, and what it means.

    Attributes:
        asked: the length of packets that has to pass, in bytes; None: not known.
        passes: the largest packet that arrived whole, in bytes; 0: none did; None: not tried.
        rtt_p50_ms: median of short round trips, in milliseconds.
        rtt_p99_ms: their 99th percentile.
        gbps: what TCP brought to the other side, in Gb/s; None: not measured.
        most_gbps: the most that this link can bring, in Gb/s; None: its speed is not known.
        tool: what measured: "iperf3" or "own".
        retransmits: segments that were sent again.
        at_fault: a host, the address of a router, or what is between the two; empty: nobody.
        cause: what is wrong, in words.
        remedy: what to do about it.
    """

    way: Way
    asked: int | None = None
    passes: int | None = None
    rtt_p50_ms: float | None = None
    rtt_p99_ms: float | None = None
    gbps: float | None = None
    most_gbps: float | None = None
    tool: str = ""
    retransmits: int | None = None
    verdict: Verdict
    at_fault: str = ""
    cause: str = ""
    remedy: str = ""

    @property
    def passes_all(self) -> bool:
        """Whether packets of the asked length pass."""
        return self.asked is not None and self.passes is not None and self.passes >= self.asked


def most_goodput(speed_gbps: float, mtu: int, version: int = 4) -> float:
    """Return the most that TCP can bring over Ethernet, in Gb/s.

    Args:
        speed_gbps: of the link, in Gb/s.
        mtu: in bytes.
        version: of the Internet Protocol, 4 or 6.
    """
    return speed_gbps * (mtu - _HEADERS[version]) / (mtu + _FRAME)


def report(
    ways: Iterable[Way],
    ends: Mapping[tuple[str, str], End],
    found: Mapping[str, Mapping[str, Any]],
    tool: str,
    measured: bool,
) -> tuple[Row, ...]:
    """Return a row for every direction.

    Args:
        ways: what was to be proven.
        ends: by host and interface.
        found: by the ids of the ways, what `link_probe` has measured; one that is missing could
            not be tried.
        tool: what measured.
        measured: throughput was asked for.
    """
    rows = [_row(way, ends, found.get(way.id), tool, measured) for way in ways]
    return tuple(_blamed(rows))


def worst(rows: Iterable[Row]) -> Verdict:
    """Return the worst verdict of some rows; of none, that nothing is known."""
    order = list(Verdict)
    return max((row.verdict for row in rows), key=order.index, default=Verdict.UNKNOWN)


def lines(rows: Iterable[Row]) -> list[str]:
    """Return the rows for people, one line each."""
    said = []
    for row in rows:
        parts = [f"{row.verdict.value}: {row.way.source} -> {row.way.target} ({row.way.network})"]
        if row.passes is not None:
            parts.append(f"packets of {row.passes} bytes pass whole")
        if row.rtt_p50_ms is not None:
            parts.append(f"round trip {row.rtt_p50_ms:.3f} ms, p99 {row.rtt_p99_ms:.3f} ms")
        if row.gbps is not None:
            of = f" of at most {row.most_gbps:.2f}" if row.most_gbps else ""
            parts.append(f"{row.gbps:.2f} Gb/s{of} ({row.tool})")
        if row.cause:
            parts.append(f"{row.cause} -> {row.remedy}")
        said.append("; ".join(parts))
    return said


def _row(
    way: Way,
    ends: Mapping[tuple[str, str], End],
    found: Mapping[str, Any] | None,
    tool: str,
    measured: bool,
) -> Row:
    here = ends.get((way.source, way.source_interface), End(asked=False))
    there = ends.get((way.target, way.target_interface), End(asked=False))
    wanted = way.mtu or here.mtu
    speeds = [each for each in (here.speed_gbps, there.speed_gbps) if each]
    speed = way.speed_gbps or (min(speeds) if speeds else None)
    if found is None:
        return Row(
            way=way,
            verdict=Verdict.UNKNOWN,
            cause=f"{way.source} could not be asked, or one of the two could not",
            remedy=f"see why SSH to {way.source} and {way.target} fails",
        )
    trips, tcp = found.get("rtt_ms") or {}, found.get("tcp") or {}
    row = Row(
        way=way,
        asked=wanted,
        passes=found.get("passes"),
        rtt_p50_ms=trips.get("p50"),
        rtt_p99_ms=trips.get("p99"),
        gbps=tcp.get("gbps"),
        most_gbps=most_goodput(speed, wanted, way.version) if speed and wanted else None,
        tool=tool if tcp else "",
        retransmits=tcp.get("retransmits"),
        verdict=Verdict.OK,
    )
    fault = (
        _at_an_end(way, here, there, wanted)
        or _on_the_path(row, found)
        or _slow(row, here, there, tcp)
    )
    if fault is not None:
        at_fault, cause, remedy = fault
        return row.model_copy(
            update={
                "verdict": Verdict.BAD,
                "at_fault": at_fault,
                "cause": cause,
                "remedy": remedy,
            }
        )
    unknown = _unknown(row, found, measured)
    if unknown is not None:
        cause, remedy = unknown
        return row.model_copy(update={"verdict": Verdict.UNKNOWN, "cause": cause, "remedy": remedy})
    return row


Fault = tuple[str, str, str]


def _at_an_end(way: Way, here: End, there: End, wanted: int | None) -> Fault | None:
    """Return which end of a link is not what it should be, why, and what to do."""
    for host, interface, end in (
        (way.source, way.source_interface, here),
        (way.target, way.target_interface, there),
    ):
        if not end.asked:
            continue
        if end.mtu is None:
            return (
                host,
                f"{host} has no interface {interface}",
                f"correct fleet_host.links of {host}",
            )
        if not end.carrier:
            return (
                host,
                f"{interface} of {host} has no carrier: nothing is plugged in, or it is off",
                f"see the cable of {host}, and ip link show {interface} there",
            )
        if wanted is not None and end.mtu < wanted:
            return (
                host,
                f"{interface} of {host} has MTU {end.mtu}, not {wanted}",
                f"./fleet network apply --limit {host}",
            )
    return None


def _on_the_path(row: Row, found: Mapping[str, Any]) -> Fault | None:
    """Return who lets packets of the wanted length not pass, why, and what to do."""
    way = row.way
    wanted = row.asked
    if wanted is None or row.passes is None or row.passes_all:
        return None
    hop = found.get("hop")
    if hop:
        return (
            str(hop["address"]),
            f"the router {hop['address']} passes packets of {hop['mtu']} bytes at most",
            f"set its MTU to {wanted} on both sides, or take it out of the path",
        )
    if row.passes == 0:
        return (
            _BETWEEN,
            f"{way.target_address} does not answer at all",
            "see that both are on the same switch or cable, and that no firewall drops ICMP echo",
        )
    return (
        _BETWEEN,
        f"packets of more than {row.passes} bytes are lost on the way, though both ends have "
        f"MTU {wanted}",
        f"set the switch's or the bridge's ports between them to {wanted} bytes or more",
    )


def _slow(row: Row, here: End, there: End, tcp: Mapping[str, Any]) -> Fault | None:
    """Return who keeps TCP below what the link can bring, why, and what to do."""
    way = row.way
    if row.gbps is None or row.most_gbps is None or row.gbps >= ENOUGH * row.most_gbps:
        return None
    short = f"{row.gbps:.2f} Gb/s of at least {ENOUGH * row.most_gbps:.2f}"
    ends = ((way.source, way.source_interface, here), (way.target, way.target_interface, there))
    for host, interface, end in ends:
        if way.speed_gbps and end.speed_gbps and end.speed_gbps < way.speed_gbps:
            return (
                host,
                f"{short}: {interface} of {host} has agreed on {end.speed_gbps:g} Gb/s",
                "change the cable or the port, or correct the network's speed_gbps",
            )
    for host, interface, end in ends:
        counted = {key: count for key, count in end.errors.items() if count}
        if counted:
            told = ", ".join(f"{key} {count}" for key, count in counted.items())
            return (
                host,
                f"{short}: {interface} of {host} has counted {told} meanwhile",
                f"crc: change the cable; dropped: rings and queues of {host} (fleet_host.links)",
            )
    for host, key in ((way.source, "cpu_here"), (way.target, "cpu_there")):
        if (tcp.get(key) or 0.0) >= _BUSY:
            return (
                host,
                f"{short}: measuring took {tcp[key]:.0f} % of a core of {host}",
                f"measure while {host} is idle, switch offloads on there, or take iperf3",
            )
    if row.retransmits:
        return (
            _BETWEEN,
            f"{short}: {row.retransmits} segments were lost on the way and sent again",
            "see what else uses the switch, and its counters",
        )
    return (
        _BETWEEN,
        f"{short}, and neither end says why",
        "measure again with more streams (--streams), and while nothing else uses the link",
    )


def _unknown(row: Row, found: Mapping[str, Any], measured: bool) -> tuple[str, str] | None:
    if "problem" in found:
        return str(found["problem"]), "./fleet firewall, then this again"
    if row.passes is None or row.asked is None:
        return "what passes was not measured", "run this again"
    if measured and row.most_gbps is None:
        return (
            "how fast the link should be is not known: the cards do not say",
            f"add speed_gbps to the network '{row.way.network}' of fleet.networks",
        )
    return None


def _blamed(rows: list[Row]) -> Iterable[Row]:
    """Yield the rows; what is between two hosts is told to be at the one that all bad ways share.

    On a switch, the port of one host is in all of its ways, and in no way of two others.
    """
    for row in rows:
        if row.at_fault != _BETWEEN or row.passes_all:
            yield row
            continue
        alike = [each for each in rows if each.way.network == row.way.network]
        # A slow way is another matter.
        bad = [each for each in alike if each.at_fault == _BETWEEN and not each.passes_all]
        fine = [each for each in alike if each.passes_all]
        suspects = [
            host
            for host in (row.way.source, row.way.target)
            if all(host in (each.way.source, each.way.target) for each in bad)
            and len({frozenset((each.way.source, each.way.target)) for each in bad}) > 1
            and any(host not in (each.way.source, each.way.target) for each in fine)
        ]
        if len(suspects) == 1:
            cause = f"{row.cause}; all bad ways are those of {suspects[0]}: its port or cable"
            yield row.model_copy(update={"at_fault": suspects[0], "cause": cause})
        else:
            yield row
