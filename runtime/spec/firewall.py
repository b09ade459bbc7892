"""The host's own firewall: which tool, what it is told, and when it is left alone.

Pure: it is given what the inventory says and what a host has answered, and returns what is to be
done there. The role `host_firewall` asks and does.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, Protocol

from pydantic import Field

from runtime.spec.answers import Probe, Questions, Seen, error_of
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.firewalls import firewalld, nftables, ufw
from runtime.spec.firewalls.seen import FILES, SYSTEMD
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow
from runtime.spec.openings import Opening, openings
from runtime.spec.services import SSH
from runtime.spec.undoing import FIREWALL, Change, joined


class _Tool(Protocol):
    """What a module of `runtime.spec.firewalls` offers."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a constant of a module
    @property
    def WORKS(self) -> Probe: ...  # noqa: N802 - a constant of a module
    def installed(
        self, fleet: str, openings: Iterable[Opening], seen: Seen, /
    ) -> Change | None: ...
    def removed(self, fleet: str, seen: Seen, /) -> Change | None: ...
    def notes(self, seen: Seen, /) -> Iterator[str]: ...


class _Service(_Tool, Protocol):
    """A tool that filters by itself where it runs."""

    def is_active(self, seen: Seen, /) -> bool: ...
    def switched_on(self, seen: Seen, /) -> bool: ...


_OTHER_WAY: Final = "or leave this host's firewall to others with fleet_host.firewall: none"
_SERVICES: Final[tuple[_Service, ...]] = (ufw, firewalld)
_TOOLS: Final[tuple[_Tool, ...]] = (nftables, *_SERVICES)


class FirewallPlan(Frozen):
    """What one host's firewall should be.

    Attributes:
        tool: what the inventory asks for; "none": stagefleet keeps no rules there.
        unguarded: why that is so, in words, or empty.
        reachable: root can be had there, so that rules can be looked for at all.
        openings: what comes in; everything else stays out.
        public: what is open to the world, in words; each run has to allow it.
        questions: what has to be known of the host.
    """

    fleet: str
    host: str
    tool: Literal["auto", "nftables", "ufw", "firewalld", "none"]
    unguarded: str
    reachable: bool
    openings: tuple[Opening, ...]
    public: tuple[str, ...]
    questions: Questions


class Decision(Frozen):
    """What is to be done about a host's firewall.

    Attributes:
        problem: why nothing can be done, in the operator's words, or empty.
        tool: the tool that is used, or "none".
        change: what to do, or None where nothing differs.
        arming: the files that undo it, by path.
        notes: what others filter or let in, which is left as it is.
    """

    problem: str = ""
    tool: str = "none"
    change: Change | None = None
    arming: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


def firewall_plans(fleet: Fleet, flows: Iterable[Flow]) -> dict[str, FirewallPlan]:
    """Return the plan of every host's firewall.

    Raises:
        SpecError: nobody could log in to a host any more, or where its peers come from is unknown.
    """
    reachable = fleet.install.scope == "system"
    guarded = {name for name in fleet.hosts if not why_unguarded(fleet, name)}
    of_host: dict[str, list[Flow]] = {name: [] for name in fleet.hosts}
    for flow in flows:
        of_host[flow.host].append(flow)
    _refuse_lockouts(fleet, guarded, of_host)
    found = openings(fleet) if guarded else {}
    questions = Questions(
        probes=(*nftables.PROBES, *ufw.PROBES, *firewalld.probes(fleet.name), SYSTEMD),
        files=(*FILES, *nftables.FILES, *ufw.FILES, *firewalld.FILES),
    )
    return {
        name: FirewallPlan(
            fleet=fleet.name,
            host=name,
            tool=host.firewall if name in guarded else "none",
            unguarded=why_unguarded(fleet, name),
            reachable=reachable,
            openings=found[name] if name in guarded else (),
            public=tuple(_public(of_host[name])) if name in guarded else (),
            questions=questions,
        )
        for name, host in fleet.hosts.items()
    }


def decide(plan: FirewallPlan, seen: Seen) -> Decision:
    """Return what is to be done about a host's firewall, or why it cannot be done."""
    try:
        return _decision(plan, seen)
    except SpecError as error:
        return Decision(problem=f"host {plan.host}: {error}")


def decide_removal(plan: FirewallPlan, seen: Seen) -> Decision:
    """Return what takes a fleet's rules off a host."""
    return decide(plan.model_copy(update={"tool": "none"}), seen)


def _decision(plan: FirewallPlan, seen: Seen) -> Decision:
    if plan.tool == "none":
        change = joined(tool.removed(plan.fleet, seen) for tool in _TOOLS)
        return Decision(change=change, arming=change.arming(FIREWALL) if change else {})
    if seen.obstacle:
        raise SpecError(
            f"it {seen.obstacle}", hint=f"let the firewall around it guard it, {_OTHER_WAY}"
        )
    _refuse_broken(seen)
    tool = _chosen(plan, seen)
    if seen.answer(tool.NAME).code is None:
        raise SpecError(
            f"its firewall is to be {tool.NAME}, which is not installed there",
            hint=f"install it there (apt install {tool.NAME}), {_OTHER_WAY}",
        )
    change = joined(
        (
            tool.installed(plan.fleet, plan.openings, seen),
            *(other.removed(plan.fleet, seen) for other in _TOOLS if other is not tool),
        )
    )
    return Decision(
        tool=tool.NAME,
        change=change,
        arming=change.arming(FIREWALL) if change else {},
        notes=tuple(tool.notes(seen)),
    )


def _chosen(plan: FirewallPlan, seen: Seen) -> _Tool:
    """Return the tool to use: the one that runs, or the one that the inventory names."""
    running = [tool for tool in _SERVICES if tool.is_active(seen)]
    if plan.tool == "auto":
        if len(running) > 1:
            raise SpecError(
                "both ufw and firewalld run there, and each drops what the other lets in",
                hint=f"stop one of them, {_OTHER_WAY}",
            )
        return running[0] if running else nftables
    chosen = next(tool for tool in _TOOLS if plan.tool == tool.NAME)
    for tool in running:
        # One that was switched on for a fleet is switched off with the fleet's rules.
        if tool is not chosen and not tool.switched_on(seen):
            raise SpecError(
                f"fleet_host.firewall asks for {chosen.NAME}, but {tool.NAME} runs there and would "
                f"drop what {chosen.NAME} lets in",
                hint=f"set fleet_host.firewall to auto or {tool.NAME}, or stop {tool.NAME} there",
            )
    return chosen


def _refuse_broken(seen: Seen) -> None:
    for tool in _TOOLS:
        answer = seen.answer(tool.NAME)
        fine = (None, 0, firewalld.NOT_RUNNING) if tool is firewalld else (None, 0)
        if answer.code not in fine:
            command = " ".join(tool.WORKS.command)
            raise SpecError(
                f"{tool.NAME} is installed there but does not work, so that nobody knows what it "
                f"filters: {command} says: {error_of(answer)}",
                hint=f"repair or remove {tool.NAME} there; nothing was changed",
            )


def why_unguarded(fleet: Fleet, host: str) -> str:
    """Return why stagefleet keeps no rules on a host, or an empty text where it does."""
    if fleet.install.scope == "user":
        return "with install.scope user there is no root, who alone can change a firewall"
    if not fleet.manages_firewalls:
        return "fleet.firewall.manage is false"
    return "fleet_host.firewall is none" if fleet.hosts[host].firewall == "none" else ""


def _refuse_lockouts(fleet: Fleet, guarded: set[str], flows: dict[str, list[Flow]]) -> None:
    for name in fleet.hosts:
        ways = (flow for flow in flows[name] if flow.service == SSH.name)
        if name in guarded and not any(flow.networks for flow in ways):
            raise SpecError(
                f"host {name}: with its firewall nobody could log in any more: fleet.operators "
                "names no network",
                hint="name in fleet.operators the networks that people administer the hosts from, "
                "or set fleet.firewall.manage to false",
            )


def _public(flows: Iterable[Flow]) -> Iterator[str]:
    for flow in flows:
        if flow.public:
            networks = ", ".join(flow.networks)
            yield f"host {flow.host}: {flow.purpose} ({flow.port}/{flow.protocol}) from {networks}"
