"""Declared, listening, reachable: what was found of every port, and what to do about it."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from runtime.spec.base import Frozen, Port
from runtime.spec.firewall import why_unguarded
from runtime.spec.fleet import Fleet
from runtime.spec.flows import flows
from runtime.spec.probes import Probe, listeners


class Verdict(StrEnum):
    """What is known of a port, the worst last."""

    OK = "ok"
    UNKNOWN = "unknown"
    MISMATCH = "mismatch"


class Try(Frozen):
    """How one probe went.

    Attributes:
        state: "open", "refused", "silent", "unreachable", or "" if it was not made.
        name: the host and port that answered, where a listener of ours did.
    """

    probe: Probe
    state: str
    name: str
    verdict: Verdict


class Row(Frozen):
    """One port of one host.

    Attributes:
        declared: who may connect: hosts and networks.
        listening: the process at the port, "for this check" for a listener of ours, or "".
        tries: the probes of it.
        cause, remedy: of a mismatch, what is likely and the command that mends it.
    """

    host: str
    purpose: str
    protocol: str
    port: Port
    public_port: Port | None
    declared: tuple[str, ...]
    listening: str
    tries: tuple[Try, ...]
    verdict: Verdict
    cause: str = ""
    remedy: str = ""


class Seen(Frozen):
    """What one source has seen.

    Attributes:
        sockets: the ports of the host that somebody listens on, by "protocol/port".
        problems: why a port could not be opened for the check, by "protocol/port".
        dialled: the results of its probes by their ids.
    """

    sockets: dict[str, str] = Field(default_factory=dict)
    problems: dict[str, str] = Field(default_factory=dict)
    dialled: dict[str, dict[str, str]] = Field(default_factory=dict)


OURS = "for this check"
_CLOSED = frozenset({"refused", "silent", "unreachable"})
_ORDER = list(Verdict)


def seen(found: Mapping[str, Any]) -> Seen:
    """Return what the program `probe` printed, as this module reads it."""
    listener = found.get("listener")
    return Seen(
        sockets={
            f"{each['protocol']}/{each['port']}": OURS
            if listener is not None and each["process"].endswith(f"(pid {listener})")
            else each["process"] or "a process that this account may not see"
            for each in found.get("sockets", ())
        },
        problems=dict(found.get("problems", {})),
        dialled={str(key): dict(value) for key, value in found.get("dialled", {}).items()},
    )


def report(fleet: Fleet, tried: Iterable[Probe], found: Mapping[str, Seen]) -> tuple[Row, ...]:
    """Return a row for every port that a flow leads to, or that must lead nowhere.

    Args:
        fleet: the fleet.
        tried: the probes of `runtime.spec.probes`.
        found: what each source has seen; a host that is missing could not be asked.
    """
    by_port: dict[tuple[str, str, int], list[Probe]] = {}
    for probe in tried:
        by_port.setdefault((probe.host, probe.protocol, probe.port), []).append(probe)
    declared = {(flow.host, flow.protocol, flow.port): flow for flow in flows(fleet)}
    expected = {(host, each.port) for host, ports in listeners(fleet).items() for each in ports}
    rows = []
    for key, attempts in by_port.items():
        host, protocol, port = key
        flow = declared.get(key)
        row = Row(
            host=host,
            purpose=attempts[0].purpose,
            protocol=protocol,
            port=port,
            public_port=flow.public_port if flow else None,
            declared=(*flow.hosts, *flow.networks) if flow else (),
            listening=found[host].sockets.get(f"{protocol}/{port}", "") if host in found else "",
            tries=tuple(_try(probe, found) for probe in attempts),
            verdict=Verdict.OK,
        )
        rows.append(_judged(fleet, row, found.get(host), (host, port) in expected))
    return tuple(rows)


def lines(rows: Iterable[Row]) -> list[str]:
    """Return the rows as text, one line each, and two more for what is not as it should be."""
    found = []
    for row in rows:
        public = f" (outside {row.public_port})" if row.public_port else ""
        tries = ", ".join(f"{each.probe.source}: {each.state or 'not tried'}" for each in row.tries)
        found.append(
            f"{row.verdict.upper()} {row.host} {row.purpose} {row.protocol} {row.port}{public}; "
            f"declared: {', '.join(row.declared) or 'nobody'}; "
            f"listening: {row.listening or 'nobody'}; {tries}"
        )
        if row.cause:
            found += [f"    {row.cause}", f"    -> {row.remedy}"]
    return found


def worst(judged: Iterable[Row | Try]) -> Verdict:
    """Return the worst verdict of rows, or of tries."""
    return max((each.verdict for each in judged), key=_ORDER.index, default=Verdict.OK)


def _try(probe: Probe, found: Mapping[str, Seen]) -> Try:
    result = found[probe.source].dialled.get(probe.id) if probe.source in found else None
    if result is None:
        return Try(probe=probe, state="", name="", verdict=Verdict.UNKNOWN)
    state, name = result["state"], result["name"]
    let_in = state == "open" and name in {"", f"{probe.host} port {probe.port}"}
    fits = let_in if probe.expected else state in _CLOSED
    verdict = Verdict.OK if fits else Verdict.MISMATCH
    # A UDP service that answers only whom it knows looks like one that is not there; and where
    # nobody could listen for this check, no answer says nothing.
    shy = probe.protocol == "udp" and state == "silent"
    if probe.expected and state in _CLOSED and (shy or probe.host not in found):
        verdict = Verdict.UNKNOWN
    return Try(probe=probe, state=state, name=name, verdict=verdict)


def _judged(fleet: Fleet, row: Row, there: Seen | None, expected: bool) -> Row:
    """Return a row with what follows from what was seen; `expected`: somebody should listen."""
    bad = [each for each in row.tries if each.verdict is Verdict.MISMATCH]
    unknown = sorted({each.probe.source for each in row.tries if each.verdict is Verdict.UNKNOWN})
    if bad or (expected and there is not None and not row.listening):
        verdict = Verdict.MISMATCH
        cause, remedy = _why(fleet, row, bad[0] if bad else None, there)
    elif there is None:
        verdict, cause = Verdict.UNKNOWN, f"{row.host} could not be asked"
        remedy = f"ansible {row.host} -m ping"
    elif unknown:
        verdict, cause = Verdict.UNKNOWN, f"could not be tried from {', '.join(unknown)}"
        remedy = f"ansible {unknown[0]} -m ping"
    else:
        return row
    return row.model_copy(update={"verdict": verdict, "cause": cause, "remedy": remedy})


Why = tuple[str, str]


def _why(fleet: Fleet, row: Row, bad: Try | None, there: Seen | None) -> Why:
    """Return the likely cause of a mismatch and what mends it."""
    return (
        (bad is not None and _open_to_a_stranger(fleet, row, bad))
        or (bad is not None and _leads_elsewhere(row, bad))
        or (there is not None and _nobody_listens(row, there))
        or (bad is not None and (_wrong_address(fleet, row, bad) or _not_mapped(fleet, row, bad)))
        or (bad is not None and _rejected(fleet, row, bad))
        or _dropped(fleet, row)
    )


def _open_to_a_stranger(fleet: Fleet, row: Row, bad: Try) -> Why | None:
    if bad.probe.expected:
        return None
    opened = f"open to {bad.probe.source}, whom no row names"
    cloud = fleet.hosts[row.host].cloud
    if cloud is None:
        return f"{opened}: {row.host} has no firewall that holds", _guard(fleet, row)
    return (
        f"{opened}: neither {row.host}'s firewall nor the rules of the cloud {cloud} hold",
        f"./fleet cloud apply; {_guard(fleet, row)}",
    )


def _leads_elsewhere(row: Row, bad: Try) -> Why | None:
    if bad.state != "open":
        return None
    return (
        f"{_dialled(bad)} leads to {bad.name}, not to {row.host} port {row.port}",
        f"map it to port {row.port} of {row.host} at the provider, or mend the public_ip and the "
        f"public ports in fleet_host of {row.host}",
    )


def _nobody_listens(row: Row, there: Seen) -> Why | None:
    if row.listening or not row.declared:
        return None
    problem = there.problems.get(f"{row.protocol}/{row.port}", "")
    reason = f": {problem}" if problem else ""
    return f"nobody listens on {row.host} port {row.port}{reason}", "./fleet service start"


def _wrong_address(fleet: Fleet, row: Row, bad: Try) -> Why | None:
    if bad.state != "unreachable":
        return None
    # Routers without a way there and firewalls that reject (firewalld does) answer the same.
    return (
        f"there is no way from {bad.probe.source} to {bad.probe.address}, or a firewall that "
        "rejects",
        f"mend addresses or public_ip in fleet_host of {row.host}; or {_guard(fleet, row)}",
    )


def _not_mapped(fleet: Fleet, row: Row, bad: Try) -> Why | None:
    if bad.probe.via != "public" or bad.probe.dialled == row.port:
        return None
    return (
        f"nothing comes through {_dialled(bad)}: it is not mapped to port {row.port} of "
        f"{row.host}, or a firewall behind it drops what comes",
        f"map it at the provider; then {_guard(fleet, row)}",
    )


def _rejected(fleet: Fleet, row: Row, bad: Try) -> Why | None:
    if bad.state != "refused":
        return None
    return (
        f"{_dialled(bad)} is refused although {row.listening} listens: on another address, or "
        "behind a firewall that rejects",
        f"./fleet deploy; {_guard(fleet, row)}",
    )


def _dropped(fleet: Fleet, row: Row) -> Why:
    cloud = fleet.hosts[row.host].cloud
    if cloud is None:
        return f"the firewall of {row.host}, or one on the way, drops it", _guard(fleet, row)
    return (
        f"the rules of the cloud {cloud}, or the firewall of {row.host}, drop it",
        f"./fleet cloud plan; {_guard(fleet, row)}",
    )


def _guard(fleet: Fleet, row: Row) -> str:
    """Return what to do about a host's own firewall."""
    if why_unguarded(fleet, row.host):
        return f"let {row.host}'s own firewall accept port {row.port} from who is declared only"
    return f"./fleet firewall --limit {row.host}"


def _dialled(bad: Try) -> str:
    return f"{bad.probe.address} port {bad.probe.dialled}"
