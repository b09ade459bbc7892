"""Groups as firewalls of Google's cloud, and back: pure.

A group is a network tag: instances that carry it are its members, and firewalls that aim at it
hold its rules. Rules that differ in nothing but their sources are one firewall, so that it changes
as a whole. A group without a rule is a firewall that is switched off: something has to say that the
group is there, and whose it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from cloud.names import ALL, digest, group_name, purpose_of, rule_mark, shortened
from cloud.rules import Group, Rule, Source
from runtime.spec.base import Frozen

LONGEST_NAME: Final = 63
MOST_SOURCE_TAGS: Final = 30
MOST_SOURCE_RANGES: Final = 5000
_LONGEST_PURPOSE: Final = 500
# The cloud's own rule that nothing comes in has it: a firewall of this priority overrules none.
_LAST_PRIORITY: Final = 65535
_MARKED: Final = re.compile(
    r"(?P<purpose>.*) \[fleet=(?P<fleet>\S+) owner=(?P<owner>\S*) group=(?P<group>\S+)\]"
)


class Traffic(Frozen):
    """What a firewall lets through or stops.

    Attributes:
        protocol: a name, a number or "all".
        ports: such as "22" or "8000-8100"; none: all of them.
    """

    protocol: str
    ports: tuple[str, ...] = ()


class Firewall(Frozen):
    """One firewall of a network, as far as it matters here.

    Attributes:
        targets: network tags of the instances that it guards; without these and `accounts`, it
            guards all instances of the network.
        accounts: service accounts of the instances that it guards.
        destinations: networks, of a firewall for what goes out.
        allowed, denied: one of them is empty.
        logs: what its log records, or None where it keeps none; that is the operator's choice.
    """

    name: str
    description: str = ""
    priority: int = 1000
    direction: str = "INGRESS"
    disabled: bool = False
    targets: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    source_tags: frozenset[str] = frozenset()
    source_ranges: frozenset[str] = frozenset()
    source_accounts: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()
    allowed: frozenset[Traffic] = frozenset()
    denied: frozenset[Traffic] = frozenset()
    logs: str | None = None


class Mark(Frozen):
    """What the description of a firewall of this product says."""

    fleet: str
    owner: str
    group: str
    purpose: str


@dataclass(frozen=True)
class Holder:
    """Whose firewalls are meant.

    Attributes:
        fleet: the fleet's name.
        owner: the mark of its authority.
        network: the network they are in.
    """

    fleet: str
    owner: str
    network: str

    def tag(self, group: str) -> str:
        """Return the network tag that a group is."""
        return group_name(self.fleet, group, LONGEST_NAME)

    def holds(self, firewall: Firewall) -> bool:
        """Return whether a firewall was made for this fleet."""
        mark = mark_of(firewall.description)
        return mark is not None and (mark.fleet, mark.owner) == (self.fleet, self.owner)


def description_of(mark: Mark) -> str:
    """Return the one line that marks a firewall, which has no labels."""
    purpose = " ".join(mark.purpose.split())[:_LONGEST_PURPOSE]
    # A host may be called anything, and a description is a line of words.
    group = quote(mark.group, safe="*")
    return f"{rule_mark(purpose)} [fleet={mark.fleet} owner={mark.owner} group={group}]"


def mark_of(description: str) -> Mark | None:
    """Return what a description says, or None if this product has not written it."""
    found = _MARKED.fullmatch(purpose_of(description) or "")
    if found is None:
        return None
    return Mark(**found.groupdict() | {"group": unquote(found["group"])})


def firewall_name(holder: Holder, group: str, rule: Rule) -> str:
    """Return the name of the firewall that a rule of a group is in."""
    return _name(holder, group, f"-{rule.protocol}-{_ports(rule)}-{_family(rule.source)}")


def fold(holder: Holder, group: Group) -> dict[str, Firewall]:
    """Return the firewalls that make a group what it is, by their names.

    Rules of others, and those that are not where the product would have put them, are left out.
    """
    rules: dict[str, list[Rule]] = {}
    for rule in group.rules.values():
        if not rule.foreign and not rule.resource:
            rules.setdefault(firewall_name(holder, group.name, rule), []).append(rule)
    if not rules:
        firewall = _empty(holder, group.name)
        return {firewall.name: firewall}
    return {name: _folded(holder, group.name, name, found) for name, found in rules.items()}


def unfold(firewall: Firewall, groups: Mapping[str, str]) -> Iterator[Rule]:
    """Yield what a firewall lets in, or would if it were switched on.

    Args:
        firewall: whoever has made it.
        groups: the names of groups by their network tags.
    """
    mark = mark_of(firewall.description)
    purpose = mark.purpose if mark else firewall.description
    for traffic in sorted(firewall.allowed, key=str):
        for first, last in _ranges(traffic):
            for source in _sources(firewall, groups):
                yield Rule(
                    protocol=traffic.protocol,
                    first=first,
                    last=last,
                    source=source,
                    purpose=purpose,
                )


def altered(firewall: Firewall, made: Mapping[str, Firewall]) -> list[str]:
    """Return in which fields a firewall differs from the one of its name in `made`."""
    should = made.get(firewall.name)
    if should is None:
        return ["name or allowed"]
    ignored = {"description", "logs"}
    return [
        field
        for field in Firewall.model_fields
        if field not in ignored and getattr(firewall, field) != getattr(should, field)
    ]


def fits(firewall: Firewall) -> bool:
    """Return whether a firewall can have as many sources as it has."""
    return (
        len(firewall.source_tags) <= MOST_SOURCE_TAGS
        and len(firewall.source_ranges) <= MOST_SOURCE_RANGES
    )


def excesses(holder: Holder, group: Group) -> Iterator[str]:
    """Yield what of a group does not fit into firewalls."""
    for firewall in fold(holder, group).values():
        if len(firewall.source_tags) > MOST_SOURCE_TAGS:
            yield (
                f"{group.name}: {firewall.name} would let in {len(firewall.source_tags)} groups, "
                f"and a firewall can name {MOST_SOURCE_TAGS}: let the hosts reach it by way of "
                "a network (fleet.access), or spread the stages over fewer hosts"
            )
        if len(firewall.source_ranges) > MOST_SOURCE_RANGES:
            yield (
                f"{group.name}: {firewall.name} would let in {len(firewall.source_ranges)} "
                f"networks, and a firewall can name {MOST_SOURCE_RANGES}: name wider networks "
                "instead of single addresses"
            )


def _folded(holder: Holder, group: str, name: str, rules: Iterable[Rule]) -> Firewall:
    found = list(rules)
    sources = [rule.source for rule in found]
    # Read back, a rule has the purposes of all that share its firewall.
    purposes = sorted({each for rule in found for each in rule.purpose.split(", ") if each})
    mark = Mark(fleet=holder.fleet, owner=holder.owner, group=group, purpose=", ".join(purposes))
    return Firewall(
        name=name,
        description=description_of(mark),
        targets=frozenset({holder.tag(group)}),
        source_tags=frozenset(holder.tag(each.name) for each in sources if each.kind == "group"),
        source_ranges=frozenset(each.name for each in sources if each.kind == "network"),
        allowed=frozenset({Traffic(protocol=found[0].protocol, ports=(_ports(found[0]),))}),
    )


def _empty(holder: Holder, group: str) -> Firewall:
    """Return what says that a group is there that has no rules.

    If somebody switches it on, it stops what nobody lets in anyway.
    """
    purpose = "every host" if group == ALL else f"host {group}, where nothing is open"
    mark = Mark(fleet=holder.fleet, owner=holder.owner, group=group, purpose=purpose)
    tag = frozenset({holder.tag(group)})
    return Firewall(
        # Every network that hosts of the fleet are in has a group of all of them, and firewalls of
        # all networks of a project share their names.
        name=_name(holder, group, f"-in-{digest(holder.network)}"),
        description=description_of(mark),
        priority=_LAST_PRIORITY,
        disabled=True,
        targets=tag,
        source_tags=tag,
        denied=frozenset({Traffic(protocol="all")}),
    )


def _name(holder: Holder, group: str, suffix: str) -> str:
    name = holder.tag(group)
    longest = LONGEST_NAME - len(suffix)
    return f"{name if len(name) <= longest else shortened(name, longest, name)}{suffix}"


def _ports(rule: Rule) -> str:
    return str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"


def _family(source: Source) -> str:
    # A firewall has networks of one version. Members of groups are let in along with version 4.
    return "v6" if source.kind == "network" and ":" in source.name else "v4"


def _ranges(traffic: Traffic) -> Iterator[tuple[int, int]]:
    if traffic.protocol in {"tcp", "udp", "sctp"} and not traffic.ports:
        yield (0, 65535)
    elif not traffic.ports:
        # It knows no ports.
        yield (0, 0)
    for ports in traffic.ports:
        first, _, last = ports.partition("-")
        yield (int(first), int(last or first))


def _sources(firewall: Firewall, groups: Mapping[str, str]) -> Iterator[Source]:
    for network in sorted(firewall.source_ranges):
        yield Source(kind="network", name=network)
    for tag in sorted(firewall.source_tags):
        yield Source(kind="group", name=groups.get(tag, tag))
    for account in sorted(firewall.source_accounts):
        yield Source(kind="group", name=account)
