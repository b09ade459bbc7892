"""Networks: cards, packet sizes, ports."""

from collections.abc import Iterable, Iterator

from runtime.checks.doctor import asked
from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.catalogue import (
    CARD,
    LEAST_MTU,
    MTU,
    PORTS,
    REACH,
    SLOW_LINK_MEGABITS,
)
from runtime.checks.doctor.finding import Finding, Verdict
from runtime.checks.doctor.judges.context import Context
from runtime.checks.doctor.seen import Card, Path, Socket
from runtime.checks.ports_report import Row
from runtime.checks.ports_report import Verdict as PortVerdict
from runtime.spec.links import Link
from runtime.spec.monitoring import exporter_port, exporters
from runtime.spec.services import SSH


def cards(context: Context) -> Iterator[Finding]:
    """Judge the cards that have the host's addresses, or lead everywhere."""
    found = {each.name: each for each in reversed(context.seen.cards or ())}
    if not found:
        yield context.skipped(
            CARD, "no card has an address of the inventory, or iproute2 is missing"
        )
    for name, card in sorted(found.items()):
        evidence = f"{card.address}, MTU {card.mtu}, " + (
            f"{card.speed} Mbit/s, {card.duplex} duplex" if card.speed else "speed unknown"
        )
        if not card.carrier and name != "lo":
            yield context.fail(CARD, f"{card.address}: no carrier", "plug in the cable", name)
        elif card.speed and (card.speed < SLOW_LINK_MEGABITS or card.duplex == "half"):
            yield context.warn(
                CARD,
                evidence,
                f"see what both ends offer (ethtool {name}), and try another cable or port",
                name,
            )
        elif not card.speed:
            yield context.skipped(CARD, f"{evidence}: a virtual card says none", name)
        else:
            yield context.ok(CARD, evidence, name)


def packets(context: Context) -> Iterator[Finding]:
    """Judge for each host that this one talks to how large packets may be on the way."""
    for other, way in asked.peers(context.fleet, context.host).items():
        path = (context.seen.paths or {}).get(other)
        if path is None:
            yield context.skipped(MTU, "the way was not tried", other)
        elif path.problem:
            yield context.skipped(MTU, f"{way.address}: {path.problem}", other)
        else:
            yield _packet(context, other, way, path)


def _packet(context: Context, other: str, way: Link, path: Path) -> Finding:
    address = way.address
    there = _card_of(context, other, address)
    evidence = f"{path.largest} bytes to {address} in {path.milliseconds:.1f} ms; " + (
        f"{context.host} carries {path.link}, {other} {there.mtu}"
        if there
        else f"{context.host} carries {path.link}"
    )
    declared = any(network.name == way.via for network in context.fleet.networks)
    network = way.via if declared else ""
    if not network:
        if path.largest < min(path.link, there.mtu if there else path.link, LEAST_MTU):
            return context.warn(
                MTU, evidence, "see whether a tunnel on the way can carry more", other
            )
        return context.ok(MTU, evidence, other)
    if there and there.mtu != path.link:
        least = context.host if path.link < there.mtu else other
        most = max(path.link, there.mtu)
        return context.fail(
            MTU,
            f"{evidence}: both ends differ",
            f"set the MTU of {least} in the network {network} to {most}, or that of the other end "
            "to what it carries",
            other,
        )
    if path.largest < path.link:
        return context.fail(
            MTU,
            f"{evidence}: something between them lets less through",
            f"find the switch port or bridge of the network {network} that does not carry "
            f"{path.link} bytes (tracepath -n {address} names a router), or set both ends to "
            f"{path.largest}",
            other,
        )
    return context.ok(MTU, evidence, other)


def _card_of(context: Context, other: str, address: str) -> Card | None:
    seen = context.everybody.get(other)
    found = (each for each in (seen.cards if seen else None) or () if each.address == address)
    return next(found, None)


def ports(context: Context) -> Iterator[Finding]:
    """Judge whether the declared ports are free, or held by the fleet's own services."""
    listening: dict[tuple[str, int], list[Socket]] = {}
    for each in context.seen.sockets or ():
        listening.setdefault((each.protocol, each.port), []).append(each)
    for (protocol, port), purpose in sorted(
        asked.declared_ports(context.fleet, context.host).items()
    ):
        about = f"{port}/{protocol}"
        holders = listening.get((protocol, port), [])
        strangers = [each for each in holders if not _is_ours(context, each)]
        if context.seen.sockets is None:
            yield context.skipped(PORTS, "the host does not say who listens", about)
        elif strangers:
            yield context.fail(
                PORTS,
                f"port {port} ({purpose}) is taken by {_named(strangers[0])}",
                f"stop that process on {context.host}, or give this service another port in "
                "fleet_host",
                about,
            )
        elif holders:
            yield context.ok(PORTS, f"{purpose}: held by {holders[0].process}", about)
        else:
            yield context.ok(PORTS, f"{purpose}: free", about)


def _is_ours(context: Context, socket: Socket) -> bool:
    """Return whether a service of this fleet listens there, or a process that one has started."""
    # Also of a configuration that this run takes off the host: its service still runs.
    own = f"{context.plan.paths.config.removeprefix('~')}/"
    exported = [
        each.program
        for each in exporters(context.fleet, context.host)
        if exporter_port(context.fleet, context.host, each) == socket.port
    ]
    if exported and socket.commands and socket.commands[0].split()[0] in exported:
        return True
    return any(" serve --config " in command and own in command for command in socket.commands)


def _named(socket: Socket) -> str:
    # A program that was given as text has lines.
    command = " ".join(socket.commands[0].split()) if socket.commands else ""
    shown = f"'{command[:120]}' " if command else ""
    return f"{shown}{socket.process or 'a process that this account may not see'}"


def _is_another_way_in(row: Row) -> bool:
    """Return whether all that is wrong is that SSH is closed: the doctor itself got in."""
    strangers = (each for each in row.tries if not each.probe.expected)
    return row.purpose == SSH.name and all(
        each.verdict is not PortVerdict.MISMATCH for each in strangers
    )


def reach(context: Context, rows: Iterable[Row] | None) -> Iterator[Finding]:
    """Judge the ports by what has been dialled; None: nothing was."""
    if rows is None:
        if context.moment is Moment.NOW:
            yield context.skipped(REACH, "nothing was dialled")
        return
    for row in rows:
        about = f"{row.port}/{row.protocol}"
        tries = ", ".join(f"{each.probe.source} {each.state or 'not tried'}" for each in row.tries)
        evidence = f"{row.purpose}: {tries}"
        if row.verdict is PortVerdict.OK:
            yield context.ok(REACH, evidence, about)
        else:
            bad = (
                row.verdict is PortVerdict.MISMATCH
                and context.is_installed
                and not _is_another_way_in(row)
            )
            yield Finding(
                check=REACH.id,
                host=context.host,
                about=about,
                verdict=Verdict.FAIL if bad else Verdict.WARN,
                evidence=f"{row.purpose}: {row.cause}",
                remedy=row.remedy if context.is_installed else f"./fleet deploy; then {row.remedy}",
            )
