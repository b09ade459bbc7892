"""What is to be done about a host's data links, by what the host has answered.

Pure: the role `net_tuning` asks and does.
"""

import difflib
import ipaddress
from collections.abc import Iterator, Mapping

from pydantic import Field

from runtime.spec.answers import Seen
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.network import files, looked, nic
from runtime.spec.network.buffers import Path, sysctls
from runtime.spec.network.change import Linked, change_of, removal
from runtime.spec.network.files import Manager
from runtime.spec.network.looked import Interface
from runtime.spec.network.nic import Finding
from runtime.spec.network.plan import LinkPlan, NetworkPlan, ping
from runtime.spec.network.record import NETWORK, recorded
from runtime.spec.undoing import Change


class Proof(Frozen):
    """What must succeed after a change, and what it means if it does not."""

    command: tuple[str, ...]
    problem: str


class Decision(Frozen):
    """What is to be done about a host's links.

    Attributes:
        problem: why nothing can be done, in the operator's words, or empty.
        change: what to do, or None where nothing differs.
        arming: the files that undo it, by path.
        proofs: what must still work after it.
        findings: what is asked for and cannot be had.
        notes: what else people should know.
    """

    problem: str = ""
    change: Change | None = None
    arming: dict[str, str] = Field(default_factory=dict)
    proofs: tuple[Proof, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> list[str]:
        """What people should read of it, one thing a line."""
        return [*map(str, self.findings), *self.notes]


def decide(plan: NetworkPlan, seen: Seen) -> Decision:
    """Return what is to be done about a host's links, or why it cannot be done."""
    try:
        return _decision(plan, seen)
    except SpecError as error:
        return Decision(problem=f"host {plan.host}: {error}")


def decide_removal(plan: NetworkPlan, seen: Seen) -> Decision:
    """Return what puts a host's links back to what they were before the fleet came."""
    before = recorded(seen)
    if before is None or before.fleet != plan.fleet:
        return Decision()
    change = removal(before, seen)
    return Decision(change=change, arming=change.arming(NETWORK))


def _decision(plan: NetworkPlan, seen: Seen) -> Decision:
    if not plan.links:
        return Decision()
    before = recorded(seen)
    if before is not None and before.fleet != plan.fleet:
        raise SpecError(
            f"its links are kept for the fleet '{before.fleet}'",
            hint="take them back first: ./fleet network revert, with that fleet's inventory",
        )
    there = looked.interfaces(seen)
    problems = [problem for each in plan.links for problem in _refusals(each, there, seen)]
    if seen.obstacle:
        problems.append(f"it {seen.obstacle}; take its fleet_host.links away, and tune it by hand")
    if problems:
        raise SpecError("; ".join(problems))
    links, findings = _links(plan, there, seen)
    settings, sysctl_findings = _sysctls(plan, seen)
    findings += sysctl_findings
    change = change_of(plan, links, settings, before, seen)
    return Decision(
        change=change,
        arming=change.arming(NETWORK) if change else {},
        proofs=tuple(_proofs(plan, seen)) if change else (),
        findings=tuple(findings),
        notes=tuple(_notes(links, seen)),
    )


def _refusals(link: LinkPlan, there: Mapping[str, Interface], seen: Seen) -> Iterator[str]:
    """Yield why a link must not be touched."""
    name = link.interface
    found = there.get(name)
    if found is None:
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
        advice = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(sorted(there))}"
        yield f"fleet_host.links: there is no interface '{name}'; {advice}"
        return
    session = looked.carries(found, seen)
    if session:
        yield (
            f"fleet_host.links: the interface '{name}' carries SSH ({session}), and a link is "
            "changed: name another interface, or take this one out of fleet_host.links"
        )
    network = ipaddress.ip_interface(link.address).network
    for each in looked.sessions(seen):
        if ipaddress.ip_address(each.peer) in network:
            yield (
                f"fleet_host.links: the network {network} of '{name}' has {each.peer}, from which "
                "an SSH session comes, whose answers would go there: give the data links a "
                "network of their own"
            )
    if found.part_of:
        yield (
            f"fleet_host.links: '{name}' is a port of '{found.part_of}': name '{found.part_of}' "
            "instead"
        )
    if link.mtu is not None and found.most is not None and link.mtu > found.most:
        yield (
            f"fleet.networks: '{link.network}' has mtu {link.mtu}, but the interface '{name}' "
            f"allows at most {found.most}: set mtu to {found.most} there, or use another card"
        )
    for other in there.values():
        if other.name != name and any(
            ipaddress.ip_interface(one).ip == ipaddress.ip_interface(link.address).ip
            for one in other.addresses
        ):
            yield (
                f"fleet_host.links: {link.address} of '{name}' is on the interface "
                f"'{other.name}' already: name '{other.name}', or take it away there"
            )


def _links(
    plan: NetworkPlan, there: Mapping[str, Interface], seen: Seen
) -> tuple[list[Linked], list[Finding]]:
    links: list[Linked] = []
    findings: list[Finding] = []
    refused = files.refused_of(seen.files.get(files.REFUSED, ""))
    for each in plan.links:
        settings, found = nic.settings(each.interface, each.nic, seen, looked.forwards(seen))
        findings += found
        for one in settings:
            thing = f"{each.interface} {one.key}"
            said = refused.get((thing, one.value))
            if said is not None and one.now != one.value:
                findings.append(
                    Finding(what=thing, asked=one.value, why=f"the card refuses it: {said}")
                )
        manager = looked.manager(each.interface, seen)
        path = ""
        if manager is Manager.NETWORKD:
            path = files.networkd_path(each.interface, looked.network_file(each.interface, seen))
        links.append(Linked(each, there[each.interface], manager, path, settings))
    return links, findings


def _sysctls(plan: NetworkPlan, seen: Seen) -> tuple[dict[str, str], list[Finding]]:
    """Return the settings that can be had, and what cannot."""
    set_before = _set_before(seen)
    paths = tuple(
        Path(
            speed_gbps=each.speed_gbps or nic.speed_of(each.interface, seen),
            rtt_ms=each.rtt_ms if each.rtt_ms is not None else _measured(each, seen),
            mtu=each.mtu,
        )
        for each in plan.links
    )
    there, settable = looked.sysctls(seen), looked.writable(seen)
    refused = files.refused_of(seen.files.get(files.REFUSED, ""))
    wanted: dict[str, str] = {}
    findings: list[Finding] = []
    for key, value in sysctls(plan.buffers, paths, set_before).items():
        why = ""
        if key not in there:
            why = "this host's kernel does not have it; in a container it is the machine's"
        elif key not in settable and there[key] != value:
            why = "it cannot be written there; in a container it is the machine's"
        elif (key, value) in refused and there[key] != value:
            why = f"the kernel refuses it: {refused[key, value]}"
        if why:
            findings.append(Finding(what=key, asked=value, why=why))
        if not why or (key, value) in refused:
            wanted[key] = value
    return wanted, findings


def _set_before(seen: Seen) -> dict[str, str]:
    """Return what an earlier run has written for systemd-sysctl."""
    lines = seen.files.get(files.SYSCTLS, "").splitlines()
    pairs = (line.partition(" = ") for line in lines if not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def _measured(link: LinkPlan, seen: Seen) -> float | None:
    """Return the longest of the round trips to a link's neighbours, in milliseconds."""
    found = [looked.round_trip_ms(link.interface, peer.address, seen) for peer in link.peers]
    return max((each for each in found if each is not None), default=None)


def _proofs(plan: NetworkPlan, seen: Seen) -> Iterator[Proof]:
    for each in plan.links:
        for peer in each.peers:
            if seen.answer(f"ping {each.interface} {peer.address}").code == 0:
                yield Proof(
                    command=ping(each.interface, peer.address, 15),
                    problem=f"{peer.host} ({peer.address}) answered over {each.interface} before, "
                    "and no longer does",
                )


def _notes(links: list[Linked], seen: Seen) -> Iterator[str]:
    for each in links:
        if each.manager is Manager.NOBODY:
            yield f"{each.plan.interface} is managed by nobody there: {files.UNIT} sets it"
        elif each.manager is Manager.IFUPDOWN:
            yield (
                f"{each.plan.interface} is in /etc/network/interfaces, which stays as it is: "
                f"{files.UNIT} sets the rest after it"
            )
        elif each.manager is Manager.NETWORKMANAGER:
            yield (
                f"{each.plan.interface} is taken from NetworkManager while the fleet keeps it: "
                f"{files.UNIT} sets it"
            )
        for peer in each.plan.peers:
            if seen.answer(f"ping {each.plan.interface} {peer.address}").code not in (0, None):
                yield f"{peer.host} ({peer.address}) does not answer over {each.plan.interface} yet"
